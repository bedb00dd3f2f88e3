"""After any use, the model answers to the bit as if nothing had happened."""

import copy
import threading
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from acre_rag.engine import ACREEngine
from acre_rag.model.local import LocalModel
from acre_rag.text.document import Document
from tests.tiny import FAMILIES, tiny_adapter, tiny_local, tiny_settings

IDS = torch.tensor([[5, 9, 200, 41, 7, 88, 13]])
TEXT = "the cat and the red hen went on a long walk in the rain"


def _state(model: PreTrainedModel) -> tuple[object, ...]:
    hooks = [
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    ]
    kinds = [type(module) for module in model.modules()]
    config = (copy.deepcopy(model.config.to_dict()), model.config._attn_implementation)
    return hooks, kinds, config, model.generation_config.to_dict(), model.training


MODES = ("adapter", "training-free", "cancelled", "failed")
USES = [(family, torch.float32, "adapter") for family in FAMILIES] + [
    (family, torch.bfloat16, mode) for family in ("llama", "phi3", "gemma") for mode in MODES
]


@pytest.mark.parametrize(("family", "dtype", "mode"), USES)
def test_a_model_is_bit_identical_after_use(
    family: str, dtype: torch.dtype, mode: str, tmp_path: Path
) -> None:
    local = tiny_local(family, dtype)
    with torch.inference_mode():
        before = local.model(IDS).logits
    weights = {name: weight.clone() for name, weight in local.model.state_dict().items()}
    state = _state(local.model)

    _use(local, mode, tmp_path)

    assert _state(local.model) == state
    for name, weight in local.model.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    with torch.inference_mode():
        assert torch.equal(local.model(IDS).logits, before)


def _use(local: LocalModel, mode: str, store: Path) -> None:
    adapter = "none" if mode == "training-free" else tiny_adapter(local.model.config)
    with ACREEngine(model=local, adapter=adapter, store=store, config=tiny_settings()) as engine:
        engine.ingest([Document(id="a", text=TEXT)])
        if mode == "cancelled":
            with engine.stream("who?", max_new_tokens=50) as stream:
                next(iter(stream), None)
        elif mode == "failed":
            with pytest.raises(KeyboardInterrupt):
                engine.ingest([Document(id="b", text=TEXT)], on_progress=_interrupt)
        else:
            engine.ask("who?", max_new_tokens=5)
    assert threading.active_count() < 50


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
