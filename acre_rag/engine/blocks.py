"""Which stored blocks hold which intervals and windows."""

from collections.abc import Iterable
from dataclasses import dataclass

from acre_rag.text.layout import Layout


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """L2 blocks of one document: so many neighbouring intervals each, never across windows.

    Attributes:
        layout: Where intervals and windows lie.
        intervals_per_block: Intervals in a block; divides those of a window.
    """

    layout: Layout
    intervals_per_block: int

    def block_tokens(self, block: int) -> range:
        """Raw tokens of a block."""
        size = self.intervals_per_block * self.layout.interval_tokens
        return range(block * size, min((block + 1) * size, self.layout.tokens))

    def block_of(self, interval: int) -> int:
        """Block that holds an interval."""
        return interval // self.intervals_per_block

    def window_of(self, block: int) -> int:
        """Window that a block belongs to."""
        return self.layout.window_of_interval(block * self.intervals_per_block)

    def window_blocks(self, window: int) -> range:
        """Blocks of a window."""
        intervals = self.layout.window_intervals(window)
        return range(self.block_of(intervals.start), self.block_of(intervals.stop - 1) + 1)

    def window_names(self, window: int) -> frozenset[str]:
        """Names of all stored values of a window."""
        return frozenset({f"l1:{window}", *(f"l2:{b}" for b in self.window_blocks(window))})

    def blocks_of(self, intervals: Iterable[int]) -> list[int]:
        """Blocks that hold any of the intervals, rising."""
        return sorted({self.block_of(interval) for interval in intervals})
