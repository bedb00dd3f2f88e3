"""What a block may be in a store: keys and values as they are, or as small integers."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from acre_rag.cache.block import KVBlock
from acre_rag.cache.quantized import QUANTIZED, QuantizedBlock, quantize

StoredBlock: TypeAlias = KVBlock | QuantizedBlock
"""A block as it is kept in a store; both kinds turn into keys and values by `to`."""

Shape: TypeAlias = tuple[int, int, int, int]
Part: TypeAlias = tuple[torch.dtype, tuple[int, ...]]

PLAIN: Mapping[str, torch.dtype] = MappingProxyType(
    {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
)
FORMS = (*PLAIN, *QUANTIZED)
"""All forms that blocks are stored in, by name."""


def plain_form(form: str) -> str:
    """Form of what is not quantized where L2 has a form: landmarks, and keys while reading."""
    return "bfloat16" if form in QUANTIZED else form


def stored_form(block: KVBlock, form: str) -> StoredBlock:
    """Bring a block to the form it is stored in, and to the CPU; the device does the work."""
    small = in_form(block, form)
    return joined_parts(form, small.shape, [part.cpu() for part in parts_of(small)])


def in_form(block: KVBlock, form: str, *, finite: bool = False) -> StoredBlock:
    """Bring a block to the form it is stored in, where it is; `finite` as `quantize` takes it."""
    if form in PLAIN:
        return block.to(dtype=PLAIN[form], device=block.keys.device)
    return quantize(block, form, finite=finite)


def form_of(block: StoredBlock) -> str:
    """Name the form of a block."""
    if isinstance(block, QuantizedBlock):
        return block.form
    return str(block.keys.dtype).removeprefix("torch.")


def parts_of(block: StoredBlock) -> tuple[Tensor, ...]:
    """Take a block apart into the tensors that are stored, in the order of `layout_of`."""
    if isinstance(block, KVBlock):
        return (block.keys, block.values)
    steps = (block.key_centres, block.key_steps, block.value_steps)
    return (*steps, block.key_codes, block.value_codes)


@lru_cache(maxsize=64)
def layout_of(form: str, shape: Shape) -> tuple[Part, ...]:
    """Tell dtype and shape of the tensors that a block of a form is stored as, in their order."""
    if form in PLAIN:
        return ((PLAIN[form], shape),) * 2
    layers, kv_heads, tokens, head_dim = shape
    channels = (torch.bfloat16, (layers, kv_heads, 1, head_dim))
    codes = (torch.int8, shape)
    packed = (torch.uint8, (layers, kv_heads, tokens, -(-head_dim // 2)))
    return (
        *(channels, channels, (torch.bfloat16, (layers, kv_heads, tokens, 1))),
        *(codes, codes if form == "int8" else packed),
    )


def joined_parts(form: str, shape: Shape, parts: Sequence[Tensor]) -> StoredBlock:
    """Put together what `parts_of` took apart."""
    if form in PLAIN:
        return KVBlock(*parts)
    centres, key_steps, value_steps, key_codes, value_codes = parts
    return QuantizedBlock(
        form=form,
        head_dim=shape[3],
        key_centres=centres,
        key_steps=key_steps,
        value_steps=value_steps,
        key_codes=key_codes,
        value_codes=value_codes,
    )


@lru_cache(maxsize=64)
def stored_bytes(form: str, shape: Shape) -> int:
    """Count the bytes of a block of a form, the frame around it left out."""
    return sum(dtype.itemsize * math.prod(part) for dtype, part in layout_of(form, shape))


def loaded(
    blocks: Sequence[StoredBlock], *, dtype: torch.dtype, device: torch.device | str
) -> KVBlock:
    """Join blocks along their tokens, as keys and values of a dtype on a device.

    Raises:
        ValueError: There is no block to join.
    """
    plain = [block for block in blocks if isinstance(block, KVBlock)]
    if len(plain) == len(blocks):
        return KVBlock.concatenate(plain).to(dtype=dtype, device=device)  # one transfer for all
    return KVBlock.concatenate([block.to(dtype=dtype, device=device) for block in blocks])
