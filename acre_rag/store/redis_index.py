"""Which documents a Redis server holds."""

from contextlib import suppress
from typing import TYPE_CHECKING

from acre_rag.errors import StoreError
from acre_rag.store import lua
from acre_rag.store.redis_layout import Server

if TYPE_CHECKING:
    from redis import Redis

_COMPLETE = b"complete"
_BUILDING = b"building"


class Index:
    """The set of all published documents, whatever their space.

    It only saves a scan of the server, and may be evicted or lost: the next listing scans, and
    begins it anew. It may name documents that are gone, never lack one that is there.
    """

    def __init__(self, server: Server, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._key = f"{namespace}:documents"

    def enter(self, document: str) -> None:
        """Add a document, where there is an index; to be called before and after it appears.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        self._server.run("write", lambda client: client.eval(lua.INDEX, 1, self._key, document))

    def leave(self, document: str) -> None:
        """Take a document out, after it is gone.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        self._server.run("write", lambda client: client.srem(self._key, document))

    def documents(self) -> list[tuple[str, str]]:
        """List spaces and digests of all documents, in order.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        members: set[bytes] = self._server.run("list", lambda client: client.smembers(self._key))
        if _COMPLETE not in members:
            members = self._build()
        names = sorted(member.decode() for member in members if b"." in member)
        return [(space, digest) for space, _, digest in (name.partition(".") for name in names)]

    def _build(self) -> set[bytes]:
        # A server that is full, or a replica, takes no index: it is scanned each time.
        with suppress(StoreError):
            # From here on whoever publishes enters the index; the scan finds all others.
            self._server.run("write", lambda client: client.sadd(self._key, _BUILDING))
        members: set[bytes] = self._server.run("list", self._scan)
        with suppress(StoreError):
            self._server.run(
                "write", lambda client: client.eval(lua.INDEX, 1, self._key, _COMPLETE, *members)
            )
        return members

    def _scan(self, client: "Redis") -> set[bytes]:
        keys = client.scan_iter(match=f"{self._namespace}:{{*}}:manifest", count=1000)
        return {key[key.index(b"{") + 1 : key.index(b"}")] for key in keys}
