"""The frame of everything stored: sizes and a checksum, a small header, then raw bytes.

offset  size  field (little-endian)
0       6     kind: `ACREKV`, a block, or `ACREMF`, a manifest
6       2     format number
8       4     header size
12      8     payload size
20      16    xxh3_128 of everything before and after this field
36            header, a msgpack map; zeros up to a multiple of 64; payload, up to the last byte
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgpack
import xxhash

from acre_rag.errors import DamagedCacheError
from acre_rag.metadata import MAX_ENTRIES
from acre_rag.store.protocol import ByteRun

MAX_PAYLOAD_BYTES = 2**31
MANIFEST = b"ACREMF"
"""Kind of a manifest in plain."""
ENCRYPTED = b"ACREEN"
"""Kind of an encrypted value, which is another frame; see `acre_rag.store.key`."""

_SIZES = struct.Struct("<6sHIQ")
_CHECKSUM_BYTES = 16
_PREAMBLE_BYTES = _SIZES.size + _CHECKSUM_BYTES
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Label:
    """Says which value an error is about.

    Attributes:
        document_id: Document that the value was asked for; `None` where its id cannot be known.
        value: Name of the value: `manifest`, `l1:3`, `l2:17`.
        digest: Digest of the document id, for where the id cannot be known.
    """

    document_id: str | None
    value: str
    digest: str = ""

    def damage(
        self, reason: str, *, found: str, expected: str, remedy: str | None = None
    ) -> DamagedCacheError:
        """Put damage into the words that every error has: found, expected, what to do."""
        if self.document_id is not None:
            document = f"document {self.document_id!r}"
        else:
            document = f"the document that is kept under {self.digest}"
        return DamagedCacheError(
            f"{self.value} of {document}: found {found}; expected {expected}",
            remedy or self._remedy(),
            reason=reason,
            value=self.value,
        )

    def _remedy(self) -> str:
        if self.document_id is None:
            return "ingest again the document that is listed no longer"
        if self.value == "manifest":
            return "ingest the document again"
        return (
            "ingest the document again with --check (check=True in Python), or ask it with "
            "on_damage='recompute', as acre ask does"
        )


def seal(
    kind: bytes, format_number: int, header: Mapping[str, object], payload: Sequence[ByteRun]
) -> list[ByteRun]:
    """Frame a header and a payload, without copying the payload.

    Raises:
        ValueError: The payload is larger than `MAX_PAYLOAD_BYTES`.
    """
    payload_bytes = sum(memoryview(run).nbytes for run in payload)
    if payload_bytes > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"a value has {payload_bytes} bytes; expected {MAX_PAYLOAD_BYTES} or fewer: split it"
        )
    sizes, body = _head(kind, format_number, header, payload_bytes)
    return [sizes + _checksum(sizes, body, *payload) + body, *payload]


def sealed_bytes(header: Mapping[str, object], payload_bytes: int) -> int:
    """Count the bytes of a frame around a header and so many bytes of payload."""
    return _header_end(_packed(header)) + payload_bytes


def unseal(
    buffer: ByteRun, label: Label, *, kind: bytes, format_number: int, max_header_bytes: int
) -> tuple[dict[str, object], memoryview]:
    """Check a frame and take it apart; the payload is a view of the buffer.

    Sizes are compared with the buffer's own before anything is allocated.

    Raises:
        DamagedCacheError: Any byte is not what `seal` wrote, or any is missing or too many.
    """
    view = memoryview(buffer).cast("B")
    if view.nbytes < _PREAMBLE_BYTES:
        raise label.damage(
            "truncated", found=f"{view.nbytes} bytes", expected=f"at least {_PREAMBLE_BYTES}"
        )
    found_kind, found_format, header_bytes, payload_bytes = _SIZES.unpack_from(view)
    if found_kind == ENCRYPTED:
        raise label.damage(
            "encrypted",
            found="it encrypted",
            expected="the key of its store",
            remedy="put it into ACRE_STORE_KEY, or name a file with --key-file",
        )
    if found_kind != kind:
        raise label.damage("header", found=f"the kind {found_kind!r}", expected=f"{kind!r}")
    if found_format != format_number:
        raise label.damage(
            "format", found=f"format {found_format}", expected=f"format {format_number}"
        )
    if header_bytes > max_header_bytes or payload_bytes > MAX_PAYLOAD_BYTES:
        raise label.damage(
            "header",
            found=f"sizes of {header_bytes} and {payload_bytes} bytes",
            expected=f"at most {max_header_bytes} and {MAX_PAYLOAD_BYTES}",
        )
    header_end = _PREAMBLE_BYTES + header_bytes
    payload_start = header_end + -header_end % _ALIGNMENT
    if view.nbytes != payload_start + payload_bytes:
        raise label.damage(
            "truncated" if view.nbytes < payload_start + payload_bytes else "header",
            found=f"{view.nbytes} bytes",
            expected=f"{payload_start + payload_bytes}, as its sizes say",
        )
    checksum = _checksum(view[: _SIZES.size], view[_PREAMBLE_BYTES:])
    stored = bytes(view[_SIZES.size : _PREAMBLE_BYTES])
    if checksum != stored:
        raise label.damage(
            "checksum", found=f"the checksum {checksum.hex()}", expected=stored.hex()
        )
    return _unpack(view[_PREAMBLE_BYTES:header_end], label), view[payload_start:]


@dataclass(frozen=True, slots=True)
class KnownFrame:
    """A frame of which all but one word of the header, checksum and payload is known beforehand.

    To check one takes little more than the checksum, as nothing is unpacked.

    Attributes:
        sizes: What stands before the checksum.
        before: What stands between the checksum and the word.
        after: What stands between the word and the payload.
        payload_bytes: Size of the payload.
    """

    sizes: bytes
    before: bytes
    after: bytes
    payload_bytes: int

    def payload(self, buffer: ByteRun, word: bytes) -> memoryview | None:
        """View the payload, if the buffer is this frame down to its last byte.

        Where it is not, `unseal` says what is wrong, or reads the same header written otherwise.
        """
        view = memoryview(buffer).cast("B")
        body = self.before + word + self.after
        start = _PREAMBLE_BYTES + len(body)
        if view.nbytes != start + self.payload_bytes:
            return None
        head = self.sizes + _checksum(self.sizes, view[_PREAMBLE_BYTES:]) + body
        return view[start:] if view[:start].tobytes() == head else None


def known_frame(
    kind: bytes,
    format_number: int,
    header: Mapping[str, object],
    payload_bytes: int,
    word: bytes,
) -> KnownFrame:
    """Tell what is known of frames whose headers differ in one word, each of the same length.

    Args:
        kind: As in `seal`.
        format_number: As in `seal`.
        header: The header of one of them.
        payload_bytes: Size of the payload.
        word: The word as this header has it, and has it once.
    """
    sizes, body = _head(kind, format_number, header, payload_bytes)
    before, _, after = body.partition(word)
    return KnownFrame(sizes, before, after, payload_bytes)


def _head(
    kind: bytes, format_number: int, header: Mapping[str, object], payload_bytes: int
) -> tuple[bytes, bytes]:
    """Make what stands before the checksum, and what stands between it and the payload."""
    packed = _packed(header)
    sizes = _SIZES.pack(kind, format_number, len(packed), payload_bytes)
    return sizes, packed + bytes(_header_end(packed) - _PREAMBLE_BYTES - len(packed))


def _packed(header: Mapping[str, object]) -> bytes:
    packed: bytes = msgpack.packb(header, unicode_errors="surrogatepass")
    return packed


def _header_end(packed: bytes) -> int:
    """Where the payload starts: behind preamble and header, at a multiple of the alignment."""
    end = _PREAMBLE_BYTES + len(packed)
    return end + -end % _ALIGNMENT


def peek(buffer: ByteRun, *, max_header_bytes: int) -> Mapping[str, object]:
    """Read the header of a damaged frame as far as it can be read; nothing in it is certain."""
    view = memoryview(buffer).cast("B")
    if view.nbytes < _PREAMBLE_BYTES:
        return {}
    end = _PREAMBLE_BYTES + min(_SIZES.unpack_from(view)[2], max_header_bytes)
    try:
        return _unpack(view[_PREAMBLE_BYTES:end], Label(None, "manifest"))
    except DamagedCacheError:
        return {}


def _unpack(packed: memoryview, label: Label) -> dict[str, object]:
    try:
        header = msgpack.unpackb(
            packed,
            unicode_errors="surrogatepass",
            # With the nesting that msgpack itself allows (about 1,000), this bounds what a hostile
            # header can make it allocate.
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_ENTRIES,
            max_ext_len=0,
        )
    except ValueError as error:
        raise label.damage(
            "header", found=f"an unreadable header ({error})", expected="a msgpack map"
        ) from error
    if not isinstance(header, dict):
        raise label.damage("header", found=f"a {type(header).__name__}", expected="a msgpack map")
    return header


def _checksum(*runs: ByteRun) -> bytes:
    digest = xxhash.xxh3_128()
    for run in runs:
        digest.update(run)
    return digest.digest()
