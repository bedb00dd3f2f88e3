"""Raw tokens as they come from the store, put into the refilled cache some intervals at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.cache.stored import Shape, form_of, stored_bytes
from acre_rag.model.reader import DocumentReader

_GPU_BYTES = 2**23
"""What is brought to a GPU in one go: enough to keep it busy, too little to crowd it."""


@dataclass(slots=True)
class Arrivals:
    """Waits until there are some blocks of one form and shape, and hands them on together.

    Attributes:
        compute: Joins blocks, in the model's dtype and on its device.
        put: Given intervals and what was computed of them.
        most_bytes: Most stored bytes that are handed on together, but for one block by itself.
    """

    compute: Callable[[Sequence[StoredBlock]], KVBlock]
    put: Callable[[list[int], KVBlock], None]
    most_bytes: int
    _intervals: list[int] = field(default_factory=list)
    _blocks: list[StoredBlock] = field(default_factory=list)
    _kind: tuple[str, Shape] | None = None

    def add(self, interval: int, block: StoredBlock) -> None:
        """Take the tokens of one interval; they, or others before them, may be handed on now."""
        kind = form_of(block), block.shape
        full = stored_bytes(*kind) * (len(self._blocks) + 1) > self.most_bytes
        if kind != self._kind or full:
            self.flush()
        self._kind = kind
        self._intervals.append(interval)
        self._blocks.append(block)

    def flush(self) -> None:
        """Hand on what is waiting."""
        if self._blocks:
            self.put(self._intervals, self.compute(self._blocks))
        self._intervals, self._blocks = [], []


def reader_arrivals(reader: DocumentReader, put: Callable[[list[int], KVBlock], None]) -> Arrivals:
    """Have a reader's device compute as much at once as suits it."""
    # A CPU is done sooner with one block at a time, which its caches hold.
    most_bytes = _GPU_BYTES if reader.local.device.type == "cuda" else 0
    return Arrivals(reader.computed_together, put, most_bytes)
