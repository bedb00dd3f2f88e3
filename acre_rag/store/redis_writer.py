"""Writing the values of one version of one document into Redis."""

from collections.abc import Sequence
from contextlib import suppress

from acre_rag.errors import StoreError
from acre_rag.store import lua
from acre_rag.store.address import check_name
from acre_rag.store.protocol import ByteRun
from acre_rag.store.publication import MAX_LINE_BYTES, join_publication, published_version
from acre_rag.store.redis_budget import Budget
from acre_rag.store.redis_layout import DocumentKeys, document_members, read_value, value_sizes
from acre_rag.store.redis_lock import Lock
from acre_rag.store.redis_server import MAX_VALUE_BYTES, RedisServer

STAGING_SECONDS = 24 * 3600
"""Age at which values that were never published expire."""


class RedisWriter:
    """Writes the values of one version, which no reader knows until `publish`."""

    def __init__(
        self,
        server: RedisServer,
        keys: DocumentKeys,
        lock: Lock,
        budget: Budget,
        *,
        version: str,
        document_id: str,
        ttl_seconds: float | None,
    ) -> None:
        self._server = server
        self._keys = keys
        self._lock = lock
        self._budget = budget
        self._version = version
        self._document_id = document_id
        self._life = "" if ttl_seconds is None else str(int(ttl_seconds * 1000))
        line: bytes = server.run(
            "read", lambda client: client.getrange(keys.manifest, 0, MAX_LINE_BYTES)
        )
        self._published = published_version(line)
        self._lost: list[str] = []
        self._sizes = self._surviving()
        self._entered = False

    def staged(self) -> dict[str, int]:
        """Name the values that this version has already, with the bytes that each has now."""
        sizes = tuple(self._sizes.items())
        return {m.partition(":")[2]: size for m, size in sizes if self._is_ours(m)}

    def read(self, name: str) -> memoryview:
        """Read back a value of this version."""
        return read_value(self._server.get, self._keys, self._version, name, self._document_id)

    def write(self, name: str, runs: Sequence[ByteRun]) -> None:
        """Write a value whole, or not at all; one of that name is replaced in one step."""
        check_name(name)
        member = f"{self._version}:{name}"
        payload = b"".join(runs)
        self._check_size(name, payload)
        lifetime = "" if self._published == self._version else str(STAGING_SECONDS * 1000)
        if not self._entered:
            self._budget.index.enter(self._keys.document)
            self._entered = True
        self._lock.run(lua.WRITE, self._keys.parts([member])[1:], [member, payload, lifetime])
        self._sizes[member] = len(payload)

    def publish(self, manifest: bytes) -> None:
        """Show this version to readers in one step, and remove the version it replaces."""
        publication = b"".join(join_publication(self._version, manifest))
        self._check_size("manifest", publication)
        sizes = dict(self._sizes)
        kept = list(filter(self._is_ours, sizes))
        taken = len(publication) + sum(sizes[member] for member in kept)
        self._budget.check(self._keys.document, taken)
        replaced = [
            member
            for member in sizes
            if member.startswith(f"{self._published}:") and not self._is_ours(member)
        ]
        dropped = [*replaced, *(member for member in self._lost if member not in sizes)]
        same = "same" if self._published == self._version else ""
        self._budget.index.enter(self._keys.document)
        answer = self._lock.run(
            lua.PUBLISH,
            self._keys.parts([*kept, *dropped])[1:],
            [publication, len(kept), self._life, same, *kept, *dropped],
        )
        if answer < 0:
            raise StoreError(
                f"found a value of document {self._document_id!r} gone; expected all that were "
                "written: the server evicts or expires them too soon: give it more memory, and "
                "ingest the document again"
            )
        self._published = self._version
        for member in replaced:
            del self._sizes[member]
        # It is there: what follows may fail, and is done when the next document is published.
        with suppress(StoreError):
            # The index may have been lost since, and begun anew before there was a manifest.
            self._budget.index.enter(self._keys.document)
            self._budget.trim(self._keys.document)

    def _surviving(self) -> dict[str, int]:
        """Look which values there are; those staged for this version live for another day."""
        members = sorted(document_members(self._server, self._keys))
        values = [self._keys.value(member) for member in members]
        staged = [
            self._keys.value(member)
            for member in members
            if self._version != self._published and self._is_ours(member)
        ]
        list(self._server.run_each("list", lambda ask, k: ask.expire(k, STAGING_SECONDS), staged))
        there = self._server.run_each("list", lambda ask, k: ask.exists(k), values)
        sizes = value_sizes(self._server, values)
        found = list(zip(members, there, sizes, strict=True))
        self._lost = [member for member, alive, _ in found if not alive]
        return {member: size for member, alive, size in found if alive}

    def _is_ours(self, member: str) -> bool:
        return member.startswith(f"{self._version}:")

    def _check_size(self, name: str, payload: bytes) -> None:
        if len(payload) > MAX_VALUE_BYTES:
            raise StoreError(
                f"{name} of document {self._document_id!r} has {len(payload)} bytes; expected "
                f"{MAX_VALUE_BYTES} or fewer, the limit of Redis: keep it in a directory"
            )
