"""What every store of caches does; `tests/store/test_contract.py` holds each one to it."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from acre_rag.errors import DamagedCacheError

ByteRun: TypeAlias = bytes | memoryview
"""A contiguous run of bytes; values are written from several, so that none is copied."""


class DocumentWriter(Protocol):
    """Writes the values of one version of one document; nobody else may meanwhile.

    Values are invisible until `publish`; those of a version that is published already are
    replaced, or put back, in place. What was written stays staged when the writer ends without
    publishing, and the next writer of the same version finds it, for a day.
    """

    def staged(self) -> Mapping[str, int]:
        """Name the values that this version has already, with the bytes that each has now."""
        ...

    def read(self, name: str) -> memoryview:
        """Read back a value of this version.

        Raises:
            DamagedCacheError: There is none of that name (reason `missing`).
            StoreError: The store cannot be reached or read.
        """
        ...

    def write(self, name: str, runs: Sequence[ByteRun]) -> None:
        """Write a value whole, or not at all; one of that name is replaced in one step.

        Raises:
            StoreError: The store is full, read-only, or cannot be reached; or this writer has
                ended, or has lost its lock to another.
        """
        ...

    def publish(self, manifest: bytes) -> None:
        """Show this version to readers in one step, and remove the version it replaces.

        Raises:
            StoreError: As in `write`; what was published before is then still there.
        """
        ...


class CacheStore(Protocol):
    """Keeps the caches of documents as bytes. Any number of threads may use one store.

    Documents live in a *space*, the hex digest of everything that makes caches of one model
    unfit for another. The values of a document belong to a *version*, the hex digest of space
    and text. A reader meets the old version of a document, the new one, or none: a value of the
    old version may be `missing` once the new one is published, and is never mixed with it.

    Attributes:
        url: Where the store is, as `open_store` takes it, without secrets.
    """

    url: str

    def load_manifest(self, space: str, document_id: str) -> bytes | None:
        """Read what was published of a document; `None` when nothing is.

        Raises:
            StoreError: The store cannot be reached or read.
        """
        ...

    def read(self, space: str, document_id: str, version: str, name: str) -> memoryview:
        """Read a value whole. The bytes stay valid as long as the view lives.

        Raises:
            DamagedCacheError: There is none of that name (reason `missing`).
            StoreError: The store cannot be reached or read.
        """
        ...

    def read_each(
        self, space: str, document_id: str, version: str, names: Sequence[str]
    ) -> Generator[memoryview | DamagedCacheError, None, None]:
        """Read values one after the other, each whole, in the order of their names.

        A few may be under way ahead of the one that is given: close the generator where not all
        are taken.

        Yields:
            A value; or the error that `read` would raise where it is missing or damaged, which
            keeps those after it from nothing.

        Raises:
            StoreError: The store cannot be reached or read; no more are given.
        """
        ...

    def writer(
        self, space: str, document_id: str, version: str, *, wait: bool = True
    ) -> AbstractContextManager[DocumentWriter]:
        """Lock a document for writing, until the context ends.

        Entering it waits a bounded time for another writer of the document, or not at all.

        Raises:
            StoreError: Another writer did not end in time, or the store cannot be written.
        """
        ...

    def delete(self, space: str, document_id: str) -> bool:
        """Remove a document with all its values, staged ones too; was it published?

        Raises:
            StoreError: Another writer did not end in time, or the store cannot be written.
        """
        ...

    def pin(self, space: str, document_id: str, *, pinned: bool = True) -> bool:
        """Keep a document for good, neither expired nor evicted, or no longer; is it there?

        It holds for versions that replace it, until the document is deleted. A store that neither
        expires nor evicts documents keeps them all for good.

        Raises:
            StoreError: The store cannot be reached or written.
        """
        ...

    def manifests(self, space: str) -> Iterator[tuple[str, bytes]]:
        """Go through what is published in a space: digests of the document ids, and manifests.

        A document that is published or deleted meanwhile may be left out.

        Raises:
            StoreError: The store cannot be reached or read.
        """
        ...

    def spaces(self) -> list[str]:
        """List the spaces that hold a published document, in order.

        Raises:
            StoreError: The store cannot be reached or read.
        """
        ...

    def close(self) -> None:
        """Release what the store itself has opened. Views that were read stay valid."""
        ...
