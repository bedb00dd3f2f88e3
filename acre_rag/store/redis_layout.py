"""Where a document lies in Redis, and which values it has there."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from acre_rag.store.address import check_name
from acre_rag.store.frame import Label
from acre_rag.store.protocol import ByteRun
from acre_rag.store.redis_server import RedisServer


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
        """Hash from `<version>:<name>` to bytes: all values there are, published or staged."""
        return f"{self._start}:names"

    @property
    def state(self) -> str:
        """Hash of what is known of a document as a whole: `bytes`, `used`, `read`, `life`."""
        return f"{self._start}:state"

    def value(self, member: str) -> str:
        """One value, called `<version>:<name>` among the names."""
        return f"{self._start}:{member}"

    def parts(self, members: Iterable[str] = ()) -> list[str]:
        """List the keys as scripts expect them: the document's own, then some values."""
        own = (self.lock, self.manifest, self.names, self.state)
        return [*own, *map(self.value, members)]

    @property
    def _start(self) -> str:
        return f"{self.namespace}:{{{self.document}}}"


def document_members(server: RedisServer, keys: DocumentKeys) -> set[str]:
    """Name all values of a document, published or staged, as `<version>:<name>`.

    Raises:
        StoreError: The server refused, or cannot be reached.
    """
    names: set[bytes] = server.run(
        "list", lambda client: {name for name, _ in client.hscan_iter(keys.names, count=1000)}
    )
    members = {name.decode() for name in names}
    if not members and server.exists(keys.manifest):
        # A published document has names; the server has evicted them.
        start = keys.value("")
        members = {key.decode()[len(start) :] for key in server.scan(f"{start}*:*")}
        if members:
            order = sorted(members)
            sizes = dict(zip(order, value_sizes(server, map(keys.value, order)), strict=True))
            server.run("write", lambda client: client.hset(keys.names, mapping=sizes))
    return members


def value_sizes(server: RedisServer, values: Iterable[str]) -> Iterator[int]:
    """Measure some values; what is no string has no bytes, and stands in the way of none.

    Raises:
        StoreError: The server refused, or cannot be reached.
    """
    answers = server.run_each("list", lambda ask, key: ask.strlen(key), values, strict=False)
    return (size if isinstance(size, int) else 0 for size in answers)


def read_value(
    get: Callable[[str], ByteRun | None],
    keys: DocumentKeys,
    version: str,
    name: str,
    document_id: str,
) -> memoryview:
    """Fetch one value of a document, by what gets a string.

    Raises:
        DamagedCacheError: There is none of that name (reason `missing`).
        StoreError: The server refused, or cannot be reached.
    """
    key = value_key(keys, version, name)
    return found_value(get(key), key, name, document_id)


def value_key(keys: DocumentKeys, version: str, name: str) -> str:
    """Say where a value is.

    Raises:
        StoreError: The name is malformed.
    """
    check_name(name)
    return keys.value(f"{version}:{name}")


def found_value(data: ByteRun | None, key: str, name: str, document_id: str) -> memoryview:
    """Give what was found under a key.

    Raises:
        DamagedCacheError: Nothing was (reason `missing`).
    """
    if data is None:
        raise Label(document_id, name).damage("missing", found="no value", expected=key)
    return memoryview(data)
