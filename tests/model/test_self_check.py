from collections.abc import Callable

import pytest
import torch

from acre_rag.errors import UnsupportedModelError
from acre_rag.model.reading import ReadingTwin
from acre_rag.model.self_check import self_check
from tests.tiny import tiny_model


def _swap_layers(twin: ReadingTwin) -> None:
    layers = twin.decoder.layers
    first, second = layers[0].mlp, layers[1].mlp
    layers[0].mlp, layers[1].mlp = second, first


class _Still(torch.nn.Module):
    def __init__(self, rotary: torch.nn.Module) -> None:
        super().__init__()
        self.rotary = rotary

    def forward(self, states: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cos, sin = self.rotary(states, positions)
        return torch.ones_like(cos), torch.zeros_like(sin)


def _rotate_nothing(twin: ReadingTwin) -> None:
    twin.rotary = _Still(twin.rotary)


def _scale(twin: ReadingTwin) -> None:
    for module in twin._attention:
        module.scaling *= 1.2


def _forget_memory(twin: ReadingTwin) -> None:
    remember = twin.remember

    def blank(keys: torch.Tensor, values: torch.Tensor) -> object:
        return remember(keys, torch.zeros_like(values))

    twin.remember = blank  # type: ignore[method-assign]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spoil", [_swap_layers, _rotate_nothing, _scale, _forget_memory])
def test_a_twin_that_reads_otherwise_than_its_model_is_refused(
    spoil: Callable[[ReadingTwin], None], dtype: torch.dtype
) -> None:
    model = tiny_model("llama", dtype)
    twin = ReadingTwin(model, None)
    spoil(twin)

    with pytest.raises(UnsupportedModelError, match="differs from its own forward pass"):
        self_check(model, twin)


def test_a_model_that_computes_no_numbers_is_refused() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0] = torch.nan

    with pytest.raises(UnsupportedModelError, match="nan"):
        self_check(model, ReadingTwin(model, None))
