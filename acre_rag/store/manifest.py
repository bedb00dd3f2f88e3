"""What a document consists of: its text, its metadata, and how its blocks were cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acre_rag.cache.stored import plain_form
from acre_rag.errors import DocumentError, StoreError
from acre_rag.metadata import MAX_BYTES, checked_metadata
from acre_rag.store.address import check_hex, document_digest
from acre_rag.store.codec import CACHE_FORMAT
from acre_rag.store.frame import MANIFEST, MAX_PAYLOAD_BYTES, Label, peek, seal, unseal
from acre_rag.store.protocol import ByteRun

# Room for the metadata, and for the id and the model's name beside it.
_MAX_HEADER_BYTES = MAX_BYTES + 2**16
_COUNTS = (
    "tokens",
    "interval_tokens",
    "window_tokens",
    "segment_tokens",
    "landmarks_per_block",
    "intervals_per_block",
    "layers",
    "kv_heads",
    "head_dim",
)
_FIELD_TYPES: Mapping[str, type] = MappingProxyType(
    dict.fromkeys(("space", "version", "document_id", "model", "method", "dtype", "created"), str)
    | dict.fromkeys((*_COUNTS, "payload_bytes", "format"), int)
    | {"metadata": dict}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a document consists of, and what its blocks must look like.

    `l1:n` holds the landmarks from `n * landmarks_per_block` on, `l2:n` the tokens of the
    intervals from `n * intervals_per_block` on; the last of each may be shorter.

    Attributes:
        format: Format of the blocks.
        space: Hex digest of what makes caches of one model unfit for another.
        version: Hex digest of space and text.
        document_id: Id that the user gave.
        text: The whole document.
        metadata: Whatever the user wants to keep with it: strings, numbers, lists, dicts.
        model: Name of the model that read it, for messages; the space says which it really was.
        method: `landmarks` of an adapter, or pooled keys and values (`training-free`).
        tokens: Raw tokens of the text.
        interval_tokens: Raw tokens of an interval; the last may have fewer.
        window_tokens: Raw tokens that were prefilled in one step.
        segment_tokens: Raw tokens after which the landmarks started anew.
        landmarks_per_block: Landmarks in one block of L1.
        intervals_per_block: Intervals in one block of L2.
        interval_starts: Where each interval starts in the text, in characters.
        interval_ends: Where each interval ends in the text, in characters.
        layers: Layers of every block.
        kv_heads: Key heads of every block.
        head_dim: Head size of every block.
        dtype: Number type of the blocks: `bfloat16`, `float16` or `float32`; or `int8` or
            `int8-int4`, which is that of L2, while L1 is in `bfloat16`.
        payload_bytes: Bytes of all keys and values, headers left out.
        created: When the document was encoded, in ISO 8601.

    Raises:
        ValueError: The fields contradict one another, or cannot be stored.
    """

    space: str
    version: str
    document_id: str
    text: str = field(repr=False)
    metadata: dict[str, Any]
    model: str
    method: Literal["landmarks", "training-free"]
    tokens: int
    interval_tokens: int
    window_tokens: int
    segment_tokens: int
    landmarks_per_block: int
    intervals_per_block: int
    interval_starts: Sequence[int] = field(repr=False)
    interval_ends: Sequence[int] = field(repr=False)
    layers: int
    kv_heads: int
    head_dim: int
    dtype: str
    payload_bytes: int
    created: str
    format: int = CACHE_FORMAT

    def __post_init__(self) -> None:
        check_hex("space", self.space)
        check_hex("version", self.version)
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.format != CACHE_FORMAT:
            raise ValueError(f"format is {self.format}; expected {CACHE_FORMAT}")
        if self.method not in ("landmarks", "training-free"):
            raise ValueError(f"method is {self.method!r}; expected landmarks or training-free")
        if not len(self.interval_starts) == len(self.interval_ends) == self.intervals:
            raise ValueError(
                f"{len(self.interval_starts)} starts and {len(self.interval_ends)} ends of "
                f"intervals; expected {self.intervals} for {self.tokens} tokens"
            )
        starts = np.asarray(self.interval_starts, np.int64)
        ends = np.asarray(self.interval_ends, np.int64)
        if starts.min() < 0 or (starts > ends).any() or ends.max() > len(self.text):
            raise ValueError(f"an interval leaves the text of {len(self.text)} characters")
        # A long document has many thousands: tuples of them would be slow to make and to keep.
        object.__setattr__(self, "interval_starts", _packed_numbers(starts))
        object.__setattr__(self, "interval_ends", _packed_numbers(ends))
        where = f"the metadata of document {self.document_id!r:.80}"
        object.__setattr__(self, "metadata", checked_metadata(self.metadata, where))

    @property
    def intervals(self) -> int:
        """Number of intervals, and of landmarks."""
        return -(-self.tokens // self.interval_tokens)

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of all blocks: L1 in order, then L2 in order."""
        sizes = (("l1", self.landmarks_per_block), ("l2", self.intervals_per_block))
        return tuple(
            f"{level}:{number}"
            for level, size in sizes
            for number in range(-(-self.intervals // size))
        )

    def block_shape(self, name: str) -> tuple[int, int, int, int]:
        """Shape that a block must have: (layers, kv_heads, tokens, head_dim).

        Raises:
            ValueError: The document has no block of that name.
        """
        level, _, number = name.partition(":")
        size, end = {
            "l1": (self.landmarks_per_block, self.intervals),
            "l2": (self.intervals_per_block * self.interval_tokens, self.tokens),
        }.get(level, (1, 0))
        start = int(number) * size if number.isdecimal() else end
        if start >= end:
            raise ValueError(f"found the name {name!r}; expected a block of {self.document_id!r}")
        return (self.layers, self.kv_heads, min(size, end - start), self.head_dim)

    def block_dtype(self, name: str) -> str:
        """Number type that a block must have: that of L2, or the one of landmarks beside it."""
        return plain_form(self.dtype) if name.startswith("l1:") else self.dtype

    def with_metadata(self, metadata: dict[str, Any]) -> "Manifest":
        """Copy with other metadata; the blocks stay as they are.

        Raises:
            DocumentError: The metadata cannot be stored.
        """
        return replace(self, metadata=metadata)

    def encode(self) -> bytes:
        """Turn into bytes: a header of the small fields, then starts, ends and text.

        Raises:
            DocumentError: The text, or id and metadata, are too large to be stored.
        """
        header = {name: getattr(self, name) for name in _FIELD_TYPES}
        offsets = bytes(self.interval_starts) + bytes(self.interval_ends)
        text = self.text.encode("utf-8", "surrogatepass")
        if len(offsets) + len(text) > MAX_PAYLOAD_BYTES:
            raise DocumentError(
                f"document {self.document_id[:80]!r} has {len(text)} bytes of text; expected "
                f"fewer than {MAX_PAYLOAD_BYTES}: split it"
            )
        frame = seal(MANIFEST, CACHE_FORMAT, header, [offsets, text])
        if len(frame[0]) > _MAX_HEADER_BYTES:
            raise DocumentError(
                f"id and metadata of document {self.document_id[:80]!r} need {len(frame[0]):,} "
                f"bytes; expected {_MAX_HEADER_BYTES:,} or fewer: shorten them"
            )
        return b"".join(frame)

    @staticmethod
    def decode(data: ByteRun, *, space: str, document_id: str) -> "Manifest":
        """Turn bytes into the manifest that they were made from.

        Args:
            data: Bytes of one manifest.
            space: Space that it was asked for.
            document_id: Document that it was asked for.

        Raises:
            DamagedCacheError: The bytes are not, down to the last one, what `encode` made for
                this document.
        """
        manifest = _decode(data, space, Label(document_id, "manifest"))
        if manifest.document_id != document_id:
            raise Label(document_id, "manifest").damage(
                "foreign",
                found=f"that of document {manifest.document_id!r:.80}",
                expected="its own",
            )
        return manifest

    @staticmethod
    def decode_listed(data: ByteRun, *, space: str, digest: str) -> "Manifest":
        """Turn bytes into a manifest, as `decode` does, where only a digest of the id is known.

        Raises:
            DamagedCacheError: The bytes are not, down to the last one, what `encode` made for
                a document of this digest.
        """
        # A name that fits the digest is the right one, however damaged the rest may be.
        name = peek(data, max_header_bytes=_MAX_HEADER_BYTES).get("document_id")
        known = isinstance(name, str) and name != "" and document_digest(name) == digest
        label = Label(str(name) if known else None, "manifest", digest)
        manifest = _decode(data, space, label)
        if not known:
            raise label.damage(
                "foreign",
                found=f"that of document {manifest.document_id!r:.80}",
                expected="its own",
            )
        return manifest


def _decode(data: ByteRun, space: str, label: Label) -> Manifest:
    header, payload = unseal(
        data, label, kind=MANIFEST, format_number=CACHE_FORMAT, max_header_bytes=_MAX_HEADER_BYTES
    )
    types = {name: type(value) for name, value in header.items()}
    if types != _FIELD_TYPES:
        wrong = sorted(str(n) for n, _ in types.items() ^ _FIELD_TYPES.items())
        raise label.damage(
            "header", found=f"other fields ({', '.join(wrong):.200})", expected="a manifest's"
        )
    if header["space"] != space:
        raise label.damage(
            "foreign", found=f"the space {header['space']!r:.140}", expected=repr(space)
        )
    try:
        return _assemble(header, payload)
    except (ValueError, StoreError) as error:
        raise label.damage("shape", found=str(error), expected="fields that agree") from error


def _packed_numbers(numbers: NDArray[np.integer]) -> memoryview:
    """Keep whole numbers from 0 to 2^32 - 1 in 4 bytes each, for reading alone."""
    return memoryview(numbers.astype("<u4").tobytes()).cast("I")


def _assemble(header: Mapping[str, Any], payload: memoryview) -> Manifest:
    """Join header and payload.

    Raises:
        ValueError: They do not fit each other.
        StoreError: A digest is malformed.
    """
    if min(header["tokens"], header["interval_tokens"]) < 1:
        raise ValueError("a number of tokens is below 1")
    offsets_bytes = 8 * -(-header["tokens"] // header["interval_tokens"])
    if offsets_bytes > payload.nbytes:
        raise ValueError(f"{payload.nbytes} bytes of payload; expected {offsets_bytes} or more")
    starts, ends = np.frombuffer(payload[:offsets_bytes], "<u4").reshape(2, -1)
    return Manifest(
        text=str(payload[offsets_bytes:], "utf-8", "surrogatepass"),
        interval_starts=_packed_numbers(starts),
        interval_ends=_packed_numbers(ends),
        **header,
    )
