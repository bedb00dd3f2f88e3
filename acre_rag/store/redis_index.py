"""Which documents a Redis server holds."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from acre_rag.errors import StoreError
from acre_rag.store import lua
from acre_rag.store.redis_server import RedisServer

_COMPLETE = b"complete"
_BUILDING = b"building"
_BATCH = 1000


class Index:
    """The set of all documents, published or staged, whatever their space.

    It only saves a scan of the server, and may be evicted or lost: the next listing scans, and
    begins it anew. It may name documents that are gone, never lack one that is there.
    """

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._key = f"{namespace}:documents"

    def enter(self, *documents: str | bytes) -> None:
        """Add documents, where there is an index; to be called before and after they appear.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        self._server.run_script("write", lua.INDEX, [self._key], documents)

    def leave(self, document: str) -> None:
        """Take a document out, after it is gone.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        self._server.run("write", lambda client: client.srem(self._key, document))

    def documents(self) -> list[str]:
        """List all documents, as `<space>.<digest>`, in order.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        members: set[bytes] = self._server.run(
            "list", lambda client: set(client.sscan_iter(self._key, count=_BATCH))
        )
        if _COMPLETE not in members:
            members = self._build()
        return sorted(member.decode() for member in members if b"." in member)

    def _build(self) -> set[bytes]:
        # A server that is full, or a replica, takes no index: it is scanned each time.
        with suppress(StoreError):
            # From here on whoever writes enters the index; the scan finds all others.
            self._server.run("write", lambda client: client.sadd(self._key, _BUILDING))
        # Manifests, names and states, one or another of which may be lost; values are hexadecimal.
        keys = self._server.scan(f"{self._namespace}:{{*}}:[mns]*")
        members = {key[key.index(b"{") + 1 : key.index(b"}")] for key in keys}
        with suppress(StoreError):
            for batch in _batches(members):
                self.enter(*batch)
            self.enter(_COMPLETE)
        return members


def _batches(members: Iterable[bytes]) -> Iterable[list[bytes]]:
    rest = iter(members)
    while batch := list(islice(rest, _BATCH)):
        yield batch
