"""Memory that stands between questions, and the passes that were captured over it.

A captured pass works on the memory it was captured with. So one question after another is given
the same: first for its look at the landmarks, then for the cache that it is answered from.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from acre_rag.cache import KVBlock, RoomyBlock
from acre_rag.cache.roomy import ROOM_TOKENS
from acre_rag.model.step import Room, Step

MOST_TOKENS = 32_768
"""Larger caches are seldom, and get memory of their own."""

_ROUND = 512
_ROWS = 64
_MOST_ROWS = 512  # longer prompts keep a GPU busy by themselves, and are hardly asked twice
_MOST_PAIRS = 2**22  # a row and a place that it may look at: float32 in each head, kept by the pool


class Lease:
    """Kept by who uses the memory; when it is gone, the memory is free."""

    __slots__ = ("__weakref__",)


@dataclass(slots=True)
class Standing:
    """Memory for one cache at a time.

    Attributes:
        whole: Keys and values, (layers, kv_heads, capacity, head_dim).
        steps: Passes over it by number of rows, each with what runs it.
    """

    whole: KVBlock
    steps: dict[int, tuple[Step, Callable[[], None]]] = field(default_factory=dict)
    _lease: "weakref.ref[Lease] | None" = None

    @staticmethod
    def like(block: KVBlock, tokens: int) -> "Standing":
        """Make memory like a block's, for so many tokens and some room."""
        layers, kv_heads, _, head_dim = block.shape
        capacity = -(-(tokens + ROOM_TOKENS) // _ROUND) * _ROUND
        shape = (layers, kv_heads, capacity, head_dim)
        return Standing(KVBlock(block.keys.new_zeros(shape), block.values.new_zeros(shape)))

    @property
    def free(self) -> bool:
        """Whether nobody uses it."""
        return self._lease is None or self._lease() is None

    @property
    def rooms(self) -> list[Room]:
        """Keys and values of each layer, (1, kv_heads, capacity, head_dim)."""
        return list(zip(self.whole.keys[:, None], self.whole.values[:, None], strict=True))

    def suits(self, block: KVBlock, tokens: int) -> bool:
        """Tell whether it is like a block's memory, and large enough."""
        layers, kv_heads, capacity, head_dim = self.whole.shape
        own = (layers, kv_heads, head_dim, self.whole.keys.dtype, self.whole.keys.device)
        theirs = (*block.shape[:2], block.shape[3], block.keys.dtype, block.keys.device)
        return own == theirs and tokens + ROOM_TOKENS <= capacity

    def lend(self, tokens: int) -> RoomyBlock:
        """Lend it to one user; what is behind the tokens is finite."""
        lease = Lease()
        self._lease = weakref.ref(lease)
        for part in (self.whole.keys, self.whole.values):
            part[:, :, tokens:] = 0
        return RoomyBlock(self.whole, tokens, lease)

    def lent_to(self, lease: object | None) -> bool:
        """Tell whether a lease is the one that holds."""
        return lease is not None and self._lease is not None and self._lease() is lease

    def holds(self, keys: Tensor) -> bool:
        """Tell whether the keys of a first layer are its own."""
        return keys.data_ptr() == self.whole.keys.data_ptr()

    def rows_for(self, ids: Tensor, tokens: int) -> int | None:
        """Say how many rows a pass has that takes some ids; `None` where it takes no such many.

        Args:
            ids: (1, some rows).
            tokens: Tokens before them.
        """
        count = ids.shape[1]
        rows = 1 if count == 1 else -(-count // _ROWS) * _ROWS
        fits = rows <= _MOST_ROWS and tokens + rows <= self.whole.tokens
        fits = fits and rows * self.whole.tokens <= _MOST_PAIRS
        return rows if fits else None
