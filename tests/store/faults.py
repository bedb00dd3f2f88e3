"""A store in which one call goes wrong."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Literal, TypeVar

from acre_rag.errors import DamagedCacheError
from acre_rag.store import CacheStore, DocumentWriter
from acre_rag.store.protocol import ByteRun

Result = TypeVar("Result")
When = Literal["before", "after"]


class FaultyStore:
    """Does what another store does, until one call of it or of its writers, counted from 0.

    What happens there, happens before the call has done anything, or after all of it.
    """

    def __init__(
        self, store: CacheStore, happening: Callable[[], None], *, at: int, when: When
    ) -> None:
        self._store = store
        self._happening = happening
        self._at = at
        self._when = when
        self.calls = 0
        self.url = store.url

    def call(self, act: Callable[[], Result]) -> Result:
        faulty = self.calls == self._at
        self.calls += 1
        if faulty and self._when == "before":
            self._happening()
        result = act()
        if faulty and self._when == "after":
            self._happening()
        return result

    def load_manifest(self, space: str, document_id: str) -> bytes | None:
        return self.call(lambda: self._store.load_manifest(space, document_id))

    def read(self, space: str, document_id: str, version: str, name: str) -> memoryview:
        return self.call(lambda: self._store.read(space, document_id, version, name))

    def read_each(
        self, space: str, document_id: str, version: str, names: Sequence[str]
    ) -> Generator[memoryview | DamagedCacheError, None, None]:
        with closing(self._store.read_each(space, document_id, version, names)) as values:
            for _ in names:
                yield self.call(lambda: next(values))

    @contextmanager
    def writer(
        self, space: str, document_id: str, version: str, *, wait: bool = True
    ) -> Iterator[DocumentWriter]:
        entered = self._store.writer(space, document_id, version, wait=wait)
        # Inside, so that a fault after entering leaves as an error in its context would.
        self.call(lambda: None)
        with entered as writer:
            self.call(lambda: None)
            yield _FaultyWriter(self, writer)

    def delete(self, space: str, document_id: str) -> bool:
        return self.call(lambda: self._store.delete(space, document_id))

    def pin(self, space: str, document_id: str, *, pinned: bool = True) -> bool:
        return self.call(lambda: self._store.pin(space, document_id, pinned=pinned))

    def manifests(self, space: str) -> Iterator[tuple[str, bytes]]:
        return self.call(lambda: self._store.manifests(space))

    def spaces(self) -> list[str]:
        return self.call(self._store.spaces)

    def close(self) -> None:
        self._store.close()


class _FaultyWriter:
    def __init__(self, store: FaultyStore, writer: DocumentWriter) -> None:
        self._store = store
        self._writer = writer

    def staged(self) -> Mapping[str, int]:
        return self._store.call(self._writer.staged)

    def read(self, name: str) -> memoryview:
        return self._store.call(lambda: self._writer.read(name))

    def write(self, name: str, runs: Sequence[ByteRun]) -> None:
        self._store.call(lambda: self._writer.write(name, runs))

    def publish(self, manifest: bytes) -> None:
        self._store.call(lambda: self._writer.publish(manifest))
