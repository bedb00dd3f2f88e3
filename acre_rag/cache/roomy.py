"""Keys and values with room behind them, for what a model adds as it answers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from acre_rag.cache.block import KVBlock
from acre_rag.cache.travel import sent, sent_small

ROOM_TOKENS = 256
"""What is taken for more than an answer needs is given back with the cache."""


@dataclass(frozen=True, slots=True)
class RoomyBlock:
    """Memory for more tokens than there are yet; its owner writes to it.

    Attributes:
        whole: Tokens first, then room that holds nothing of meaning.
        tokens: Number of tokens.
        lease: Kept for as long as the memory is used, where it is lent; `None` where it is its own.
    """

    whole: KVBlock
    tokens: int
    lease: object | None = None

    @staticmethod
    def like(block: KVBlock, tokens: int) -> "RoomyBlock":
        """Make room for so many tokens and more, in the shape of another block; not written yet."""
        layers, kv_heads, _, head_dim = block.shape

        def empty(like: Tensor) -> Tensor:
            return like.new_empty(layers, kv_heads, tokens + ROOM_TOKENS, head_dim)

        return RoomyBlock(KVBlock(empty(block.keys), empty(block.values)), tokens)

    @staticmethod
    def copied(block: KVBlock) -> "RoomyBlock":
        """Copy a block, which stays as it is."""
        roomy = RoomyBlock.like(block, block.tokens)
        roomy.put(block, torch.arange(block.tokens))
        return roomy

    @property
    def taken(self) -> KVBlock:
        """View the tokens, without the room."""
        return self.whole.slice(0, self.tokens)

    def put(self, block: KVBlock, places: Tensor) -> None:
        """Copy tokens, wherever they are, to their places, rising, (tokens,), int64, on the CPU."""
        if not block.tokens:
            return
        first, last = int(places[0]), int(places[-1])
        in_a_row = last - first + 1 == block.tokens
        device = self.whole.keys.device
        indices = None if in_a_row else sent_small(places, device)
        # One after the other: what has come from elsewhere is let go of before more comes.
        pairs = ((self.whole.keys, block.keys), (self.whole.values, block.values))
        for ours, theirs in pairs:
            if indices is None:
                ours[:, :, first : last + 1] = sent(theirs, device)
            else:
                ours.index_copy_(2, indices, sent(theirs, device))
