"""Many blocks of one document at once: one step and one transfer for all, not one for each.

Blocks of one form and shape are stacked, and what is computed for one layer of one block is then
computed for all: the numbers are those of every block by itself, to the bit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from acre_rag.cache.block import KVBlock
from acre_rag.cache.stored import (
    StoredBlock,
    form_of,
    in_form,
    joined_parts,
    parts_of,
)
from acre_rag.cache.travel import on_host, stacked


def loaded_together(
    blocks: Sequence[StoredBlock], *, dtype: torch.dtype, device: torch.device | str
) -> KVBlock:
    """Join blocks of one form and shape along their tokens, on a device.

    Args:
        blocks: One or more, on the host.
        dtype: Of the keys and values.
        device: Where they go.
    """
    if len(blocks) == 1:
        return blocks[0].to(dtype=dtype, device=device)
    form, (layers, *shape) = form_of(blocks[0]), blocks[0].shape
    columns = zip(*map(parts_of, blocks), strict=True)
    # Blocks stand where layers do: all that is computed is computed within a layer.
    parts = [stacked(column, device).flatten(0, 1) for column in columns]
    kv_heads, tokens, head_dim = shape
    together = joined_parts(form, (len(blocks) * layers, kv_heads, tokens, head_dim), parts)
    flat = together.to(dtype=dtype, device=device)

    def in_a_row(tensor: Tensor) -> Tensor:
        _, kv_heads, tokens, head_dim = tensor.shape
        apart = tensor.view(len(blocks), layers, kv_heads, tokens, head_dim).movedim(0, 2)
        return apart.flatten(2, 3)

    return KVBlock(in_a_row(flat.keys), in_a_row(flat.values))


def stored_pieces(
    block: KVBlock, tokens: int, form: str, *, at_once: int, finite: bool = False
) -> list[StoredBlock]:
    """Cut a block into pieces of so many tokens, each in the form it is stored in, on the host.

    What comes from a GPU is on its way there: wait for `arrival` before you look at it.

    Args:
        block: Keys not rotated, on any device, which does the work.
        tokens: Tokens of a piece; the last may be shorter.
        form: One of `FORMS`.
        at_once: Pieces that are computed in one step: a GPU wants many, a CPU what its cache holds.
        finite: See `quantize`.

    Raises:
        ConfigError: As `quantize`.
    """
    if at_once == 1:
        starts = range(0, block.tokens, tokens)
        ends = (min(start + tokens, block.tokens) for start in starts)
        own = (block.slice(*span) for span in zip(starts, ends, strict=True))
        return [_stored(piece, form, finite=finite) for piece in own]
    whole = block.tokens // tokens
    pieces: list[StoredBlock] = []
    for first in range(0, whole, at_once):
        last = min(first + at_once, whole)
        several = block.slice(first * tokens, last * tokens)
        pieces += _cut(several, last - first, form, finite=finite)
    if whole * tokens < block.tokens:
        pieces.append(_stored(block.slice(whole * tokens, block.tokens), form, finite=finite))
    return pieces


def _stored(block: KVBlock, form: str, *, finite: bool) -> StoredBlock:
    """Store one piece in the form it has in a store."""
    small = in_form(block, form, finite=finite)
    return joined_parts(form, small.shape, [on_host(part) for part in parts_of(small)])


def _cut(block: KVBlock, count: int, form: str, *, finite: bool) -> list[StoredBlock]:
    """Cut a block into so many pieces of equal length, and store them in one step."""
    layers, kv_heads, tokens, head_dim = block.shape

    def apart(tensor: Tensor) -> Tensor:
        pieces: Tensor = tensor.unflatten(2, (count, tokens // count))
        return pieces.movedim(2, 0).flatten(0, 1)

    small = in_form(KVBlock(apart(block.keys), apart(block.values)), form, finite=finite)
    columns = [on_host(part).unflatten(0, (count, layers)) for part in parts_of(small)]
    shape = layers, kv_heads, tokens // count, head_dim
    return [joined_parts(form, shape, parts) for parts in zip(*columns, strict=True)]


def pageable(block: StoredBlock) -> StoredBlock:
    """Move a block that came from a GPU out of pinned memory, of which there is never much."""
    parts = parts_of(block)
    if not any(part.is_pinned() for part in parts):
        return block
    form = form_of(block)
    return joined_parts(form, block.shape, [part.clone() for part in parts])
