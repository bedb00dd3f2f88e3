"""What one question has cost so far, and how long it may wait for stored values."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from acre_rag.cache import StoredBlock
from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store.archive import CacheArchive

_PATIENCE_SECONDS = 10.0
_SLOWEST = 2**20
"""Bytes a second below which a store is no use to a question whose patience is at its end."""


@dataclass(slots=True)
class Ledger:
    """What one question has cost so far.

    Attributes:
        archive: Counts the bytes that were read through it.
        recomputed_tokens: Tokens read again because a stored value was damaged or missing.
        encoded_tokens: Tokens read again because the question's plan says so.
        waited_seconds: How long values were waited for.
    """

    archive: CacheArchive
    recomputed_tokens: int = 0
    encoded_tokens: int = 0
    waited_seconds: float = 0.0

    def wait(self, blocks: Iterator[StoredBlock | DamagedCacheError]) -> StoredBlock:
        """Wait for the next block; each may come in time, and all of a question too slowly.

        Raises:
            DamagedCacheError: It is missing or damaged.
            StoreError: The store cannot be reached or read, or is too slow.
        """
        started = time.monotonic()
        try:
            block = next(blocks)
        finally:
            self.waited_seconds += time.monotonic() - started
        got = self.archive.bytes_read
        if self.waited_seconds > _PATIENCE_SECONDS + got / _SLOWEST:
            raise StoreError(
                f"{self.archive.store.url} took {self.waited_seconds:.1f} s for {got} bytes; "
                f"expected {_SLOWEST} a second after {_PATIENCE_SECONDS:g} s: look whether the "
                "server is overloaded"
            )
        if isinstance(block, DamagedCacheError):
            raise block
        return block
