import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
)

from acre_rag.errors import UnsupportedModelError
from acre_rag.model.support import check_supported
from tests.conftest import FindLocal
from tests.tiny import CONTEXT, HEAD_DIM, HIDDEN, KV_HEADS, LAYERS, Q_HEADS, build

SIZES = {
    "vocab_size": 64,
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 3,
    "long_factor": [2.0] * 3,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MistralConfig(**SIZES, sliding_window=16), "sliding"),
        (
            Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=16, max_window_layers=1),
            "sliding",
        ),
        (
            LlamaConfig(
                **SIZES,
                rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
            ),
            "dynamic",
        ),
        (Phi3Config(**SIZES, rope_parameters=LONG_ROPE), "longrope"),
        (Gemma2Config(**SIZES, head_dim=6), "sliding"),
        (
            Gemma2Config(**SIZES, head_dim=6, layer_types=["full_attention"] * 2,
                         sliding_window=None),
            "caps its logits",
        ),
        (GPT2Config(vocab_size=64, n_embd=24, n_layer=2, n_head=4, n_positions=128), "no decoder"),
        (MambaConfig(vocab_size=64, hidden_size=24, num_hidden_layers=2), "no decoder"),
    ],
    ids=["mistral-sliding", "qwen2-sliding", "dynamic", "longrope", "gemma2", "softcap", "gpt2",
         "mamba"],
)  # fmt: skip
def test_what_cannot_be_refilled_exactly_is_refused_with_its_reason(
    config: PreTrainedConfig, reason: str
) -> None:
    model = AutoModelForCausalLM.from_config(config)

    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        check_supported(model)

    assert type(model).__name__ in str(caught.value)


def test_layers_without_self_attention_are_refused() -> None:
    model = build(LlamaConfig(**SIZES))
    del model.model.layers[1].self_attn

    with pytest.raises(UnsupportedModelError, match="no self-attention"):
        check_supported(model)


def test_attention_without_known_projections_is_refused() -> None:
    model = build(LlamaConfig(**SIZES))
    del model.model.layers[0].self_attn.k_proj

    with pytest.raises(UnsupportedModelError, match="q_proj, k_proj and v_proj"):
        check_supported(model)


def test_offloaded_weights_are_refused() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES))

    with pytest.raises(UnsupportedModelError, match="offloaded"):
        check_supported(model)


def test_sizes_are_those_of_the_model(find_local: FindLocal, family: str) -> None:
    shape = check_supported(find_local(family, torch.float32).model)

    assert (shape.layers, shape.q_heads, shape.kv_heads) == (LAYERS, Q_HEADS, KV_HEADS)
    assert (shape.hidden, shape.max_positions) == (HIDDEN, CONTEXT)
    assert shape.head_dim == (8 if family == "phi3-partial" else HEAD_DIM)
    assert shape.scaling == pytest.approx(0.2 if family == "granite" else shape.head_dim**-0.5)
