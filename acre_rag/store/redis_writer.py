"""Writing the values of one version of one document into Redis."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from acre_rag.errors import StoreError
from acre_rag.store import lua
from acre_rag.store.address import check_name
from acre_rag.store.protocol import Chunk
from acre_rag.store.publication import MAX_LINE_BYTES, join_publication, published_version
from acre_rag.store.redis_index import Index
from acre_rag.store.redis_layout import DocumentKeys, Server, document_members, read_value
from acre_rag.store.redis_lock import Lock

if TYPE_CHECKING:
    from redis import Redis

STAGING_SECONDS = 24 * 3600
"""Age at which values that were never published expire."""

MAX_VALUE_BYTES = 512 * 2**20 - 1
"""Largest string that Redis takes, unless it was told otherwise."""

_BATCH = 1000


class RedisWriter:
    """Writes the values of one version, which no reader knows until `publish`."""

    def __init__(
        self,
        server: Server,
        keys: DocumentKeys,
        lock: Lock,
        index: Index,
        *,
        version: str,
        document_id: str,
    ) -> None:
        self._server = server
        self._keys = keys
        self._lock = lock
        self._index = index
        self._version = version
        self._document_id = document_id
        line: bytes = server.run(
            "read", lambda client: client.getrange(keys.manifest, 0, MAX_LINE_BYTES)
        )
        self._published = published_version(line)
        self._members = self._surviving()

    def staged(self) -> dict[str, int]:
        """Name the values that this version has already, with the bytes that each has now."""
        members = tuple(self._members.items())
        return {m.partition(":")[2]: size for m, size in members if self._is_ours(m)}

    def read(self, name: str) -> memoryview:
        """Read back a value of this version."""
        return read_value(self._server, self._keys, self._version, name, self._document_id)

    def write(self, name: str, chunks: Sequence[Chunk]) -> None:
        """Write a value whole, or not at all; one of that name is replaced in one step."""
        check_name(name)
        member = f"{self._version}:{name}"
        payload = b"".join(chunks)
        self._check_size(name, payload)
        lifetime = "" if self._published == self._version else str(STAGING_SECONDS)
        self._lock.run(
            lua.WRITE,
            [self._keys.manifest, self._keys.names, self._keys.value(member)],
            [member, payload, lifetime],
        )
        self._members[member] = len(payload)

    def publish(self, manifest: bytes) -> None:
        """Show this version to readers in one step, and remove the version it replaces."""
        publication = b"".join(join_publication(self._version, manifest))
        self._check_size("manifest", publication)
        kept = list(filter(self._is_ours, self._members))
        replaced = [
            member
            for member in self._members
            if member.startswith(f"{self._published}:") and not self._is_ours(member)
        ]
        values = [self._keys.value(member) for member in (*kept, *replaced)]
        self._index.enter(self._keys.document)
        answer = self._lock.run(
            lua.PUBLISH,
            [self._keys.manifest, self._keys.names, *values],
            [publication, len(kept), *replaced],
        )
        if answer < 0:
            raise StoreError(
                f"found a value of document {self._document_id!r} gone; expected all that were "
                "written: the server evicts or expires them too soon: give it more memory, and "
                "ingest the document again"
            )
        self._published = self._version
        for member in replaced:
            del self._members[member]
        # The index may have been lost since, and begun anew before there was a manifest to find.
        with suppress(StoreError):
            self._index.enter(self._keys.document)

    def _surviving(self) -> dict[str, int]:
        """Look which values there are; those staged for this version live for another day."""
        members = document_members(self._server, self._keys)
        surviving: dict[str, int] = {}
        for start in range(0, len(members), _BATCH):
            batch = members[start : start + _BATCH]
            answers = self._server.run("list", partial(self._look, batch))
            looks = zip(batch, answers[::2], answers[1::2], strict=True)
            # Something other than a string has no size, and stands in the way of none.
            surviving.update(
                (m, size if isinstance(size, int) else 0) for m, alive, size in looks if alive
            )
        return surviving

    def _look(self, members: Sequence[str], client: "Redis") -> list[object]:
        with client.pipeline(transaction=False) as pipeline:
            for member in members:
                key = self._keys.value(member)
                if self._version != self._published and self._is_ours(member):
                    pipeline.expire(key, STAGING_SECONDS)
                else:
                    pipeline.exists(key)
                pipeline.strlen(key)
            answers: list[object] = pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not str(answer).startswith("WRONGTYPE"):
                raise answer
        return answers

    def _is_ours(self, member: str) -> bool:
        return member.startswith(f"{self._version}:")

    def _check_size(self, name: str, payload: bytes) -> None:
        if len(payload) > MAX_VALUE_BYTES:
            raise StoreError(
                f"{name} of document {self._document_id!r} has {len(payload)} bytes; expected "
                f"{MAX_VALUE_BYTES} or fewer, the limit of Redis: keep it in a directory"
            )
