"""Blocks stored and loaded together, beside each by itself."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.cache import KVBlock
from acre_rag.cache.gathered import loaded_together, stored_pieces
from acre_rag.cache.stored import FORMS, form_of, parts_of, stored_form

LAYERS, KV_HEADS, HEAD_DIM = 3, 2, 5


def _drawn(tokens: int, seed: int = 0) -> KVBlock:
    generator = torch.Generator().manual_seed(seed)
    return KVBlock(*torch.randn(2, LAYERS, KV_HEADS, tokens, HEAD_DIM, generator=generator))


@pytest.mark.parametrize("form", FORMS)
@given(tokens=st.integers(1, 23), own=st.integers(1, 6), at_once=st.integers(1, 5))
def test_pieces_are_stored_as_each_would_be_by_itself(
    form: str, tokens: int, own: int, at_once: int
) -> None:
    block = _drawn(tokens)

    ours = stored_pieces(block, own, form, at_once=at_once)

    theirs = [
        stored_form(block.slice(at, min(at + own, tokens)), form) for at in range(0, tokens, own)
    ]
    assert [form_of(one) for one in ours] == [form] * len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, parts_of(one), parts_of(other)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
@given(tokens=st.integers(1, 4), count=st.integers(1, 5))
def test_blocks_are_loaded_as_each_would_be_by_itself(
    form: str, dtype: torch.dtype, tokens: int, count: int
) -> None:
    blocks = [stored_form(_drawn(tokens, seed), form) for seed in range(count)]

    ours = loaded_together(blocks, dtype=dtype, device="cpu")

    theirs = KVBlock.concatenate([block.to(dtype=dtype, device="cpu") for block in blocks])
    assert torch.equal(ours.keys, theirs.keys)
    assert torch.equal(ours.values, theirs.values)


def test_slices_of_one_block_are_loaded_together() -> None:
    whole = stored_form(_drawn(9), "int8-int4")
    slices = [whole.slice(at, at + 3) for at in (0, 6, 3)]

    ours = loaded_together(slices, dtype=torch.float32, device="cpu")

    theirs = [one.to(dtype=torch.float32, device="cpu") for one in slices]
    assert torch.equal(ours.keys, KVBlock.concatenate(theirs).keys)
