"""Where a document lies in Redis, and what is asked of a server there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from acre_rag.store.address import check_name
from acre_rag.store.frame import Label

if TYPE_CHECKING:
    from redis import Redis


class Server(Protocol):
    """A Redis server whose errors are those of a store."""

    def run(self, action: str, call: "Callable[[Redis], Any]") -> Any:  # noqa: ANN401  # redis-py has other types in each version
        """Call the client.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        ...

    def exists(self, *keys: str) -> bool:
        """Is any of the keys there?

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        ...

    def get(self, key: str) -> bytes | None:
        """Fetch a string.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class DocumentKeys:
    """The keys of one document; their common part in braces puts them into one hash slot.

    Attributes:
        namespace: First part of every key.
        document: Space and digest of the document id.
    """

    namespace: str
    document: str

    @property
    def lock(self) -> str:
        """Token of the one who writes the document."""
        return f"{self._start}:lock"

    @property
    def manifest(self) -> str:
        """What is published."""
        return f"{self._start}:manifest"

    @property
    def names(self) -> str:
        """Set of `<version>:<name>`: all values there are, published or staged."""
        return f"{self._start}:names"

    def value(self, member: str) -> str:
        """One value, called `<version>:<name>` among the names."""
        return f"{self._start}:{member}"

    @property
    def _start(self) -> str:
        return f"{self.namespace}:{{{self.document}}}"


def document_members(server: Server, keys: DocumentKeys) -> list[str]:
    """Name all values of a document, published or staged, as `<version>:<name>`.

    Raises:
        StoreError: The server refused, or cannot be reached.
    """
    members: set[bytes] = server.run("list", lambda client: client.smembers(keys.names))
    if not members and server.exists(keys.manifest):
        # A published document has names; the server has evicted them.
        members = server.run("list", lambda client: _scan_members(keys, client))
        if members:
            server.run("write", lambda client: client.sadd(keys.names, *members))
    return sorted(member.decode() for member in members)


def _scan_members(keys: DocumentKeys, client: "Redis") -> set[bytes]:
    start = keys.value("").encode()
    found = client.scan_iter(match=start + b"*:*", count=1000)
    return {key[len(start) :] for key in found}


def read_value(
    server: Server, keys: DocumentKeys, version: str, name: str, document_id: str
) -> memoryview:
    """Fetch one value of a document.

    Raises:
        DamagedCacheError: There is none of that name (reason `missing`).
        StoreError: The server refused, or cannot be reached.
    """
    check_name(name)
    key = keys.value(f"{version}:{name}")
    data = server.get(key)
    if data is None:
        raise Label(document_id, name).damage("missing", found="no value", expected=key)
    return memoryview(data)
