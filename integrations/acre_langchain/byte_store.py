"""`ACREByteStore`: bytes under keys, in a directory or in Redis, as the framework's byte stores."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from os import PathLike

from langchain_core.stores import ByteStore

from acre_rag import open_store

_LOG = logging.getLogger(__name__)
# Caches live in spaces named by digests of models; this digest is of no model.
_SPACE = hashlib.sha256(b"acre_langchain bytes").hexdigest()[:32]
_DIGEST_BYTES = 16
_LENGTH_BYTES = 4


class ACREByteStore(ByteStore):
    """Keeps bytes under keys, whole or not at all, for any number of threads and processes.

    Give it a place of its own: where caches are, checks of those would report its values.

    Args:
        location: Path of a directory, or URL of a Redis, as an engine's `store` takes it.

    Raises:
        ACREError: The store cannot be opened.
    """

    def __init__(self, location: str | PathLike[str]) -> None:
        self._store = open_store(location)

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Get the values of keys; `None` for those that have none, or whose value is damaged."""
        return [self._find(key) for key in keys]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set keys to values, one after the other."""
        for key, value in key_value_pairs:
            sealed = _seal(key, value)
            with self._store.writer(_SPACE, key, sealed[:_DIGEST_BYTES].hex()) as writer:
                writer.publish(sealed)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete keys and their values; those that are not there do no harm."""
        for key in keys:
            self._store.delete(_SPACE, key)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Go through the keys, or those that begin with a prefix, in any order."""
        for _, sealed in self._store.manifests(_SPACE):
            opened = _open(sealed)
            if opened is not None and opened[0].startswith(prefix or ""):
                yield opened[0]

    def close(self) -> None:
        """Let go of the directory or the server."""
        self._store.close()

    def _find(self, key: str) -> bytes | None:
        sealed = self._store.load_manifest(_SPACE, key)
        if sealed is None:
            return None
        opened = _open(sealed)
        if opened is None or opened[0] != key:
            _LOG.warning("the value of %r in %s is damaged: taken for none", key, self._store.url)
            return None
        return opened[1]


def _seal(key: str, value: bytes) -> bytes:
    """Join a digest, the key's length, the key and the value."""
    name = key.encode("utf-8", "surrogatepass")
    body = len(name).to_bytes(_LENGTH_BYTES, "big") + name + value
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def _open(sealed: bytes) -> tuple[str, bytes] | None:
    """Take key and value apart; `None` where the digest says that they are damaged."""
    digest, body = sealed[:_DIGEST_BYTES], sealed[_DIGEST_BYTES:]
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        return None
    end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "big")
    return body[_LENGTH_BYTES:end].decode("utf-8", "surrogatepass"), body[end:]
