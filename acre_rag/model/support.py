"""Which models can be refilled exactly: the parts they need, and the kinds that are refused."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from acre_rag.errors import UnsupportedModelError

# Frequencies of "dynamic" and "longrope" depend on the sequence's length, so that keys rotated
# once at new positions would not be those the model expects.
SUPPORTED_ROPE_TYPES = frozenset({"default", "linear", "llama3", "yarn"})
Rotate = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a model that its caches depend on.

    Attributes:
        layers: Decoder layers.
        q_heads: Query heads of a layer.
        kv_heads: Key and value heads of a layer.
        head_dim: Size of one head.
        hidden: Size of a hidden state.
        scaling: Factor on attention logits.
        max_positions: Longest sequence the model was made for.
    """

    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    scaling: float
    max_positions: int


def attention_modules(model: PreTrainedModel) -> list[nn.Module]:
    """List the attention module of every layer, first layer first.

    Raises:
        UnsupportedModelError: The model is not a decoder with `model.layers[i].self_attn`.
    """
    decoder = getattr(model, "model", None)
    layers = getattr(decoder, "layers", None)
    if layers is None or not hasattr(decoder, "rotary_emb"):
        raise refusal(model, "it has no decoder layers with rotary embedding at model.layers")
    modules = [getattr(layer, "self_attn", None) for layer in layers]
    if not all(isinstance(module, nn.Module) for module in modules):
        raise refusal(model, "some of its layers have no self-attention (linear or hybrid layers)")
    return modules  # type: ignore[return-value]  # the line above leaves no None


def layer_devices(model: PreTrainedModel) -> list[torch.device]:
    """Tell where every layer is, first layer first: a `device_map` may spread them.

    Raises:
        UnsupportedModelError: As `attention_modules`.
    """
    return [next(module.parameters()).device for module in attention_modules(model)]


def check_supported(model: PreTrainedModel) -> ModelShape:
    """Accept a model whose parts are understood, and tell its sizes.

    This looks at the configuration and the modules alone; that the numbers agree is for
    `self_check` to say.

    Raises:
        UnsupportedModelError: The message names the reason.
    """
    config = model.config
    modules = attention_modules(model)
    for index, module in enumerate(modules):
        fused = hasattr(module, "qkv_proj")
        if not fused and not all(hasattr(module, f"{name}_proj") for name in "qkv"):
            raise refusal(model, f"layer {index} has no q_proj, k_proj and v_proj, nor qkv_proj")
    _refuse_windows_and_ropes(model)
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        raise refusal(model, "some weights are offloaded; give it a device_map without cpu or disk")
    q_heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // q_heads
    return ModelShape(
        layers=len(modules),
        q_heads=q_heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or q_heads,
        head_dim=head_dim,
        hidden=config.hidden_size,
        scaling=float(getattr(modules[0], "scaling", head_dim**-0.5)),
        max_positions=config.max_position_embeddings,
    )


def _refuse_windows_and_ropes(model: PreTrainedModel) -> None:
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds - {"full_attention"}:
        raise refusal(model, f"its layers are {sorted(kinds)}; only full_attention is exact")
    uses_sliding = getattr(config, "use_sliding_window", True)
    if getattr(config, "sliding_window", None) and uses_sliding:
        raise refusal(model, f"it attends through a sliding window of {config.sliding_window}")
    rope = getattr(config, "rope_parameters", None) or {}
    rope_type = rope.get("rope_type", "default")
    if rope_type not in SUPPORTED_ROPE_TYPES:
        raise refusal(model, f"its rope_type is {rope_type!r}; its frequencies depend on length")
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(config, name, None):
            raise refusal(model, f"it caps its logits ({name})")


def rotation_of(module: nn.Module) -> Rotate:
    """Find the rotary function of an attention module's own family.

    Raises:
        UnsupportedModelError: Its modelling file has none.
    """
    family = sys.modules[type(module).__module__]
    rotate = getattr(family, "apply_rotary_pos_emb", None)
    if rotate is None:
        raise UnsupportedModelError(
            f"{family.__name__} has no apply_rotary_pos_emb; "
            "expected a decoder with rotary embedding: use another model"
        )
    return rotate  # type: ignore[no-any-return]  # untyped in transformers


def rotates(module: nn.Module) -> bool:
    """Tell whether a layer rotates its keys at all (some layers of SmolLM3 do not)."""
    return bool(getattr(module, "use_rope", True))


def refusal(model: PreTrainedModel, reason: str) -> UnsupportedModelError:
    """Make the error that names a model and the reason it is refused."""
    return UnsupportedModelError(
        f"{type(model).__name__} cannot be refilled exactly: {reason}; use a full-attention "
        "decoder without a sliding window, such as Llama, Mistral, Qwen2, Qwen3, Phi-3, SmolLM3, "
        "Granite, OLMo2 or Gemma (1)"
    )


def model_dtype(model: PreTrainedModel) -> torch.dtype:
    """Number type that the model computes in."""
    return next(model.parameters()).dtype
