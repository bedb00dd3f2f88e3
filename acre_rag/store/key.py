"""The key of an encrypted store: where it comes from, and what it does.

offset  size  field of a value (little-endian)
0       6     kind: `ACREEN`
6       2     format number
8       12    nonce, drawn for this value
20            AES-256-GCM of the value, and the 16 bytes of its tag, up to the last byte
"""

import hmac
import os
import re
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path

from acre_rag.errors import ConfigError, StoreError
from acre_rag.store.frame import ENCRYPTED, Label
from acre_rag.store.protocol import ByteRun

KEY_VARIABLE = "ACRE_STORE_KEY"
"""Environment variable that holds the key of a store."""

_FORMAT = 1
_HEAD = struct.Struct("<6sH12s")
_TAG_BYTES = 16
OVERHEAD_BYTES = _HEAD.size + _TAG_BYTES
"""Bytes that encryption adds to a value."""

_DIGITS = re.compile(r"[0-9a-fA-F]{64}")


class StoreKey:
    """A secret of 32 bytes that values are encrypted with, and ids are hidden with.

    Args:
        digits: 64 hexadecimal digits, such as `openssl rand -hex 32` prints.

    Raises:
        ConfigError: They are no such digits, or the extra `encryption` is not installed.
    """

    __slots__ = ("_cipher", "_naming")

    def __init__(self, digits: str) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ConfigError(
                "found no library for encryption; expected the extra 'encryption': run "
                "pip install 'acre-rag[encryption]'"
            ) from error
        if not _DIGITS.fullmatch(digits.strip()):
            # Nothing of it is shown: it may be a key with one digit too many.
            raise ConfigError(
                f"found a key of {len(digits.strip())} characters; expected 64 hexadecimal "
                "digits: make one with openssl rand -hex 32"
            )
        secret = bytes.fromhex(digits.strip())
        # Two purposes, two keys: what is learned of one says nothing of the other.
        self._cipher = AESGCM(hmac.digest(secret, b"acre_rag values", "sha256"))
        self._naming = hmac.digest(secret, b"acre_rag names", "sha256")

    def __repr__(self) -> str:
        return "StoreKey(...)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("found a key to be pickled; expected it to stay in its process")

    def hidden(self, what: str, name: str) -> str:
        """Hide an id or a version: 40 hexadecimal digits, the same for the same name."""
        message = f"{what}\0{name}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._naming, message, "sha256").hex()[:40]

    def encrypt(self, runs: Sequence[ByteRun], place: str, label: Label) -> list[ByteRun]:
        """Encrypt a value, to be decrypted at its place alone.

        Raises:
            StoreError: The value is too large.
        """
        head = _HEAD.pack(ENCRYPTED, _FORMAT, secrets.token_bytes(12))
        try:
            sealed = self._cipher.encrypt(head[8:], b"".join(runs), _bound(head, place))
        except OverflowError as error:
            raise StoreError(
                f"{label.value} of document {label.document_id!r} is too large to be encrypted; "
                "expected 2 GB at most: split the document"
            ) from error
        return [head, sealed]

    def decrypt(self, data: ByteRun, place: str, label: Label) -> memoryview:
        """Decrypt a value of a place.

        Raises:
            DamagedCacheError: It was not encrypted with this key for this place, or changed since.
        """
        from cryptography.exceptions import InvalidTag

        view = memoryview(data)
        if view.nbytes < OVERHEAD_BYTES:
            raise label.damage(
                "truncated", found=f"{view.nbytes} bytes", expected=f"at least {OVERHEAD_BYTES}"
            )
        kind, number, nonce = _HEAD.unpack_from(view)
        if (kind, number) != (ENCRYPTED, _FORMAT):
            raise label.damage(
                "header", found=f"the kind {kind!r}, {number}", expected="an encrypted value"
            )
        try:
            plain = self._cipher.decrypt(
                nonce, view[_HEAD.size :], _bound(bytes(view[: _HEAD.size]), place)
            )
        except InvalidTag as error:
            raise label.damage(
                "checksum",
                found="bytes that the key does not open",
                expected="what was encrypted for this place",
            ) from error
        return memoryview(plain)


def read_key(path: str | os.PathLike[str] | None = None) -> StoreKey | None:
    """Read a key from a file, else from the environment; `None` where there is none.

    Raises:
        ConfigError: The file cannot be read, or holds no key; or so the environment.
    """
    if path is None:
        digits = os.environ.get(KEY_VARIABLE)
        return StoreKey(digits) if digits else None
    try:
        digits = Path(path).expanduser().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"found no readable key file {os.fspath(path)!r}; expected 64 hexadecimal digits in "
            "it: check the path, and its permissions"
        ) from error
    return StoreKey(digits)


def _bound(head: bytes, place: str) -> bytes:
    return head + place.encode()
