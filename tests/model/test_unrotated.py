import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AttentionInterface

from acre_rag.model.reading import ReadingTwin
from acre_rag.model.self_check import self_check
from acre_rag.model.support import attention_modules
from acre_rag.model.unrotated import leave_unrotated
from tests.tiny import FAMILIES, tiny_model


def _seen(attention: nn.Module, states: torch.Tensor, angles: Any) -> list[torch.Tensor]:  # noqa: ANN401
    """Run one attention module; give the queries and keys that its attention function gets."""
    seen: list[torch.Tensor] = []

    def keep(_module: nn.Module, query: torch.Tensor, key: torch.Tensor, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        seen.extend([query, key])
        return torch.zeros(1, states.shape[1], query.shape[1], query.shape[3]), None

    AttentionInterface.register("kept", keep)
    attention.config._attn_implementation = "kept"
    attention(states, position_embeddings=angles, attention_mask=None)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_unrotated_equals_rotation_by_nothing(family: str) -> None:
    model = tiny_model(family, torch.float32)
    states = torch.randn(1, 5, model.config.hidden_size)
    cos, sin = model.model.rotary_emb(states, torch.arange(5)[None])
    plain, own = (copy.deepcopy(attention_modules(model)[0]) for _ in range(2))
    assert leave_unrotated(own)

    expected = _seen(plain, states, (torch.ones_like(cos), torch.zeros_like(sin)))
    found = _seen(own, states, (None, None))

    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_other_modules_of_the_family_rotate_on() -> None:
    model = tiny_model("llama", torch.float32)
    ids = torch.arange(6)[None]
    before = model(ids).logits

    ReadingTwin(model, None)

    assert torch.equal(model(ids).logits, before)


def _wrap(attention: nn.Module) -> None:
    """Replace a forward pass, as what moves layers between devices does."""
    own = type(attention).forward

    def forward(*args: Any, **named: Any) -> Any:  # noqa: ANN401
        return own(attention, *args, **named)

    attention.forward = forward


def test_a_forward_pass_that_is_not_the_familys_own_is_left_as_it_is() -> None:
    attention = attention_modules(tiny_model("llama", torch.float32))[0]
    _wrap(attention)

    assert not leave_unrotated(attention)


def test_where_a_layer_cannot_be_left_unrotated_all_are_rotated_by_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama", torch.float32)
    left = iter([True, False])

    def sometimes(attention: nn.Module) -> bool:
        return next(left, True) and leave_unrotated(attention)

    monkeypatch.setattr("acre_rag.model.reading.leave_unrotated", sometimes)

    self_check(model, ReadingTwin(model, None))
