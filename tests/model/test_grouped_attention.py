"""Attention with grouped query heads, beside that of transformers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from acre_rag.errors import ModelError
from acre_rag.model.grouped_attention import (
    GROUPED_ATTENTION,
    grouped_attention,
    stock_attention,
)
from acre_rag.model.local import LocalModel
from acre_rag.model.stock import generate_plainly, prefill_plainly
from tests.tiny import save_tiny_llama

BATCH, KV_HEADS, SHARED, HEAD_DIM, TOKENS = 2, 3, 4, 8, 37


def _module() -> nn.Module:
    module = nn.Module()
    module.num_key_value_groups, module.is_causal = SHARED, True
    return module


def _mask(kind: str, rows: int, dtype: torch.dtype) -> Tensor | None:
    if kind == "none":
        return None
    seen = torch.ones(BATCH, 1, rows, TOKENS, dtype=torch.bool).tril(TOKENS - rows)
    seen[1, :, :, :5] = False  # padding in front of the second
    if kind == "seen":
        return seen
    added = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return added.expand(-1, SHARED * KV_HEADS, -1, -1) if kind == "added, by head" else added


@pytest.fixture
def loaded(tmp_path: Path) -> LocalModel:
    save_tiny_llama(tmp_path, 512)
    return LocalModel.load(tmp_path, device="cpu", dtype="float32")


@pytest.mark.parametrize("kind", ["none", "seen", "added", "added, by head"])
@pytest.mark.parametrize("rows", [1, 6, TOKENS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_gives_what_transformers_gives(
    rng: torch.Generator, dtype: torch.dtype, rows: int, kind: str
) -> None:
    def random(heads: int, length: int) -> Tensor:
        return torch.randn(BATCH, heads, length, HEAD_DIM, generator=rng).to(dtype)

    query, key, value = (
        random(KV_HEADS * SHARED, rows),
        random(KV_HEADS, TOKENS),
        random(KV_HEADS, TOKENS),
    )
    mask = _mask(kind, rows, dtype)

    ours, none = grouped_attention(_module(), query, key, value, mask, scaling=0.3)
    theirs, _ = sdpa_attention_forward(_module(), query, key, value, mask, scaling=0.3)

    assert none is None
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_a_loaded_model_attends_so_and_says_what_it_would_say_by_itself(loaded: LocalModel) -> None:
    ids = list(range(3, 40))
    ours = prefill_plainly(loaded, ids, 16)
    assert loaded.model.config._attn_implementation == GROUPED_ATTENTION
    assert loaded.model.config.num_attention_heads > loaded.model.config.num_key_value_heads

    with torch.inference_mode():
        grouped = loaded.model(torch.tensor([[7, 8, 9]]), past_key_values=ours).logits
        with stock_attention(loaded.model):
            theirs = prefill_plainly(loaded, ids, 16)
            plain = loaded.model(torch.tensor([[7, 8, 9]]), past_key_values=theirs).logits

    torch.testing.assert_close(grouped, plain, rtol=1e-5, atol=1e-5)
    assert len(generate_plainly(loaded, ids, None, 8)) > 0


def test_a_given_model_and_another_attention_stay_as_they_are(local: LocalModel) -> None:
    before = local.model.config._attn_implementation

    with stock_attention(local.model):
        assert local.model.config._attn_implementation == before

    assert before == "sdpa"


def test_a_measurement_that_fails_leaves_the_attention_as_it_was(loaded: LocalModel) -> None:

    def fail() -> None:
        with stock_attention(loaded.model):
            assert loaded.model.config._attn_implementation == "sdpa"
            raise ModelError("measured no more")

    with pytest.raises(ModelError):
        fail()

    assert loaded.model.config._attn_implementation == GROUPED_ATTENTION
