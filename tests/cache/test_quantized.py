"""Quantized blocks against loops over single numbers, and against the bounds that are promised."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.cache import KVBlock, QuantizedBlock, quantize
from acre_rag.cache.stored import (
    FORMS,
    form_of,
    joined_parts,
    layout_of,
    loaded,
    parts_of,
    stored_bytes,
    stored_form,
)
from acre_rag.errors import ConfigError

LEVELS = {"int8": 127, "int8-int4": 7}
FORM = pytest.mark.parametrize("form", list(LEVELS))
SHAPES = st.tuples(*(st.integers(1, most) for most in (3, 3, 6, 9)))


def drawn(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> KVBlock:
    """Keys with channels that lie far from zero, as those with biases do; values around zero."""
    rng = torch.Generator().manual_seed(seed)
    keys, values, far = (torch.randn(shape, generator=rng) for _ in range(3))
    return KVBlock((keys + 40 * far[:, :, :1]).to(dtype), values.to(dtype))


def rounded_up(step: float) -> float:
    return torch.tensor(step * (1 + 2**-7)).to(torch.bfloat16).item()


def looped(block: KVBlock, form: str) -> KVBlock:
    """Quantize and turn back, one number at a time, in double precision."""
    keys, values = block.keys.double(), block.values.double()
    layers, heads, tokens, channels = keys.shape
    for layer in range(layers):
        for head in range(heads):
            for channel in range(channels):
                column = [keys[layer, head, t, channel].item() for t in range(tokens)]
                centre = torch.tensor((min(column) + max(column)) / 2).to(torch.bfloat16).item()
                step = rounded_up(max(abs(key - centre) for key in column) / 127)
                for t, key in enumerate(column):
                    code = round((key - centre) / step) if step else 0
                    keys[layer, head, t, channel] = centre + code * step
            for t in range(tokens):
                row = values[layer, head, t].tolist()
                step = rounded_up(max(map(abs, row)) / LEVELS[form])
                for channel, value in enumerate(row):
                    code = round(value / step) if step else 0
                    values[layer, head, t, channel] = code * step
    return KVBlock(keys.float(), values.float())


def back(block: QuantizedBlock, dtype: torch.dtype = torch.float32) -> KVBlock:
    return block.to(dtype=dtype, device="cpu")


@FORM
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (3, 1, 16, 8)])
def test_numbers_are_those_of_a_loop(form: str, shape: tuple[int, ...]) -> None:
    block = drawn(shape)

    ours, theirs = back(quantize(block, form)), looped(block, form)

    torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.values, theirs.values, rtol=1e-6, atol=0)


@FORM
@given(shape=SHAPES, seed=st.integers(0, 2**31), scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_no_number_is_off_by_more_than_half_a_step(
    form: str, shape: tuple[int, ...], seed: int, scale: float
) -> None:
    block = drawn(shape, seed)
    block = KVBlock(block.keys * scale, block.values * scale)

    ours = back(quantize(block, form))

    key_range = block.keys.amax(2, keepdim=True) - block.keys.amin(2, keepdim=True)
    # The centre is rounded to bfloat16, and the steps are up to 1.6 % too long.
    reach = key_range / 2 + block.keys.abs().amax(2, keepdim=True) * 2**-8
    assert ((ours.keys - block.keys).abs() <= 1.016 * reach / 127 / 2 + 1e-6 * scale).all()
    farthest = block.values.abs().amax(3, keepdim=True)
    allowed = 1.016 * farthest / LEVELS[form] / 2 + 1e-6 * scale
    assert ((ours.values - block.values).abs() <= allowed).all()


@FORM
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zeros_and_constants_come_back(form: str, dtype: torch.dtype) -> None:
    keys = torch.full((1, 2, 3, 5), 96.0, dtype=dtype)
    values = torch.zeros(1, 2, 3, 5, dtype=dtype)

    ours = back(quantize(KVBlock(keys, values), form), dtype)

    assert (ours.keys == keys).all()
    assert (ours.values == values).all()
    assert ours.keys.dtype == ours.values.dtype == dtype


@FORM
@pytest.mark.parametrize("place", ["keys", "values"])
@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_refused(form: str, place: str, odd: float) -> None:
    block = drawn((2, 1, 3, 4))
    getattr(block, place)[1, 0, 2, 3] = odd

    with pytest.raises(ConfigError, match="infinite"):
        quantize(block, form)


@FORM
@given(shape=SHAPES, cut=st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_slices_are_those_of_the_whole(
    form: str, shape: tuple[int, ...], cut: tuple[int, int]
) -> None:
    start, end = sorted(min(place, shape[2]) for place in cut)
    small = quantize(drawn(shape), form)

    ours, theirs = back(small.slice(start, end)), back(small).slice(start, end)

    assert (ours.keys == theirs.keys).all()
    assert (ours.values == theirs.values).all()
    assert small.slice(start, end).tokens == end - start


@pytest.mark.parametrize("form", FORMS)
@given(shape=SHAPES)
def test_blocks_are_stored_as_their_layout_says_and_put_together_again(
    form: str, shape: tuple[int, ...]
) -> None:
    block = stored_form(drawn(shape), form)
    parts = parts_of(block)

    again = joined_parts(form, shape, parts)

    assert (form_of(block), block.shape) == (form, shape)
    assert tuple((part.dtype, tuple(part.shape)) for part in parts) == layout_of(form, shape)
    assert stored_bytes(form, shape) == sum(p.numel() * p.element_size() for p in parts)
    assert form_of(again) == form
    assert all((a == b).all() for a, b in zip(parts, parts_of(again), strict=True))


def test_eight_bits_take_about_half_and_four_bit_values_three_eighths() -> None:
    shape = (30, 3, 32, 64)

    plain, whole, mixed = (stored_bytes(form, shape) for form in ("bfloat16", *LEVELS))

    assert whole / plain == pytest.approx((1 + 4 / 32 + 1 + 2 / 64) / 4)
    assert mixed / plain == pytest.approx((1 + 4 / 32 + 0.5 + 2 / 64) / 4)


@pytest.mark.parametrize("forms", [["bfloat16"], ["int8"], ["int8", "int8-int4", "float32"]])
def test_blocks_are_loaded_in_the_order_given(forms: list[str]) -> None:
    blocks = [stored_form(drawn((2, 1, 3, 4), seed), form) for seed, form in enumerate(forms * 2)]

    ours = loaded(blocks, dtype=torch.float32, device="cpu")

    theirs = [block.to(dtype=torch.float32, device="cpu") for block in blocks]
    assert (ours.keys == torch.cat([block.keys for block in theirs], dim=2)).all()
    assert (ours.values == torch.cat([block.values for block in theirs], dim=2)).all()
