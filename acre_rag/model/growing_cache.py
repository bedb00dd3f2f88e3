"""A stock cache whose layers grow without copying what they hold."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from acre_rag.cache.roomy import ROOM_TOKENS


class GrowingCache(DynamicCache):
    """A stock cache whose layers are growing ones.

    Attributes:
        lease: Kept for as long as the memory is used, where it is lent.
    """

    lease: object | None = None


def growing_cache(
    layers: Sequence[tuple[Tensor, Tensor]],
    tokens: int | None = None,
    lease: object | None = None,
) -> GrowingCache:
    """Make a stock cache of keys and values, each (batch, kv_heads, tokens, head_dim).

    A stock layer is copied as a whole for every token that is added; these are copied once in
    256 tokens. What attention sees is the same to the bit.

    Args:
        layers: Keys and values of each layer.
        tokens: How many of those that they hold are tokens; what is behind is room, which is
            written to. `None` where all are, which are then left as they are.
        lease: Kept with the cache.
    """
    cache = GrowingCache()
    cache.lease = lease
    cache.layers = [_GrowingLayer(keys, values, tokens) for keys, values in layers]
    return cache


def rooms_of(cache: DynamicCache) -> list[tuple[Tensor, Tensor]] | None:
    """Give keys and values of each layer with the room behind them, where one token still fits.

    `None` where the cache is of another kind, was cropped, or is full.
    """
    rooms = []
    for layer in cache.layers:
        room = layer.room() if isinstance(layer, _GrowingLayer) else None
        if room is None:
            return None
        rooms.append(room)
    return rooms or None


def advance(cache: DynamicCache, tokens: int) -> None:
    """Show so many tokens more, which were written into the room of each layer."""
    for layer in cache.layers:
        if isinstance(layer, _GrowingLayer):
            layer.show(layer.get_seq_length() + tokens)


class _GrowingLayer(DynamicLayer):
    """Keeps room behind its tokens; what it shows are views of the part that is taken."""

    def __init__(self, keys: Tensor, values: Tensor, tokens: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the framework's own
        self.lazy_initialization(keys, values)
        self._room: tuple[Tensor, Tensor] = keys, values
        self.keys, self.values = keys[..., :tokens, :], values[..., :tokens, :]
        # Without room, the tensors are somebody else's: the first token moves all.
        self._shown: Tensor | None = None if tokens is None else self.keys

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_unused: object
    ) -> tuple[Tensor, Tensor]:
        """Append tokens, and show all: keys and values."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        # Cropping and reordering put other tensors in place of what was shown last.
        if self.keys is not self._shown or end > self._room[0].shape[-2]:
            keys, values = self.keys, self.values
            if keys is None or values is None:
                raise ValueError("the cache was reset; expected its tokens: make a new one")
            self._room = _roomy(keys, end + ROOM_TOKENS), _roomy(values, end + ROOM_TOKENS)
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room.narrow(-2, start, end - start).copy_(new)
        return self.show(end)

    def show(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Show so many tokens, all of which were written."""
        self.keys, self.values = (room.narrow(-2, 0, tokens) for room in self._room)
        self._shown = self.keys
        return self.keys, self.values

    def room(self) -> tuple[Tensor, Tensor] | None:
        """Give the memory behind what is shown, if that has room for a token."""
        fits = self.get_seq_length() < self._room[0].shape[-2]
        return self._room if fits and self.keys is self._shown else None


def _roomy(held: Tensor, tokens: int) -> Tensor:
    """Copy to the front of a tensor with room for so many tokens."""
    *outer, length, width = held.shape
    room = torch.empty(*outer, tokens, width, dtype=held.dtype, device=held.device)
    room[..., :length, :] = held
    return room
