"""Keys and values of some tokens, in every layer of one model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acre_rag.cache.travel import sent


@dataclass(frozen=True, slots=True)
class KVBlock:
    """Keys and values of some tokens, in every layer of one model.

    There is no batch axis: a block belongs to one document. Keys are kept *before* rotary
    embedding, so that a refill may give their tokens new positions.

    Attributes:
        keys: Not rotated, (layers, kv_heads, tokens, head_dim).
        values: Same shape, dtype and device as `keys`.

    Raises:
        ValueError: The two differ in shape, dtype or device, or have other than four axes.
    """

    keys: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        ours = (self.keys.shape, self.keys.dtype, self.keys.device)
        theirs = (self.values.shape, self.values.dtype, self.values.device)
        if ours != theirs or self.keys.ndim != 4:
            raise ValueError(
                f"keys are {ours} and values {theirs}; expected equal shapes, dtypes and devices, "
                "with the axes (layers, kv_heads, tokens, head_dim)"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the keys: (layers, kv_heads, tokens, head_dim)."""
        layers, kv_heads, tokens, head_dim = self.keys.shape
        return layers, kv_heads, tokens, head_dim

    @property
    def tokens(self) -> int:
        """Number of tokens in the block."""
        return self.keys.shape[2]

    def slice(self, start: int, end: int) -> "KVBlock":
        """View the tokens from `start` up to `end`, without copying."""
        return KVBlock(self.keys[:, :, start:end], self.values[:, :, start:end])

    def take(self, places: Tensor) -> "KVBlock":
        """Copy the tokens at `places`, (chosen,), int64, in that order."""
        return KVBlock(self.keys.index_select(2, places), self.values.index_select(2, places))

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> "KVBlock":
        """Cast to a dtype and move to a device; returns itself where nothing changes."""
        if self.keys.dtype == dtype and self.keys.device == torch.device(device):
            return self
        return KVBlock(self.keys.to(device, dtype), self.values.to(device, dtype))

    @staticmethod
    def gathered(blocks: Sequence["KVBlock"]) -> "KVBlock":
        """Join blocks of one model, wherever they are, in new memory on the first one's device.

        Raises:
            ValueError: There is no block to join.
        """
        if not blocks:
            raise ValueError("found no block to join; expected one or more")
        (layers, kv_heads, _, head_dim), like = blocks[0].shape, blocks[0].keys
        tokens = sum(block.tokens for block in blocks)

        def joined(parts: Sequence[Tensor]) -> Tensor:
            whole = like.new_empty(layers, kv_heads, tokens, head_dim)
            for part, place in zip(parts, whole.split([p.shape[2] for p in parts], 2), strict=True):
                place.copy_(sent(part, like.device))
            return whole

        keys = joined([block.keys for block in blocks])
        return KVBlock(keys, joined([block.values for block in blocks]))

    @staticmethod
    def concatenate(blocks: Sequence["KVBlock"]) -> "KVBlock":
        """Join blocks of one model along their tokens, in the order given, all on one device.

        Raises:
            ValueError: There is no block to join.
        """
        if not blocks:
            raise ValueError("found no block to join; expected one or more")
        if len(blocks) == 1:
            return blocks[0]
        keys = torch.cat([block.keys for block in blocks], dim=2)
        values = torch.cat([block.values for block in blocks], dim=2)
        return KVBlock(keys, values)
