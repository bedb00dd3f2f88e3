"""Attention of a few rows on a CPU: query heads that share a key head are rows of one head.

Where several query heads share the keys and values of one (grouped-query attention), PyTorch's
kernel for CPUs reads those again for each query head, or transformers copies them for each. Laid
out as rows of one head they are read once: a token behind 1,300 is attended 4 times as fast. The
sums are the same, in the same order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED_ATTENTION = "acre_grouped"
_MOST_ROWS = 1024  # of one key head; beyond, reading keys again costs little beside computing
_UNKNOWN = ("softcap", "position_bias", "cache")


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Have a model of this package's own loading attend so, where it would use PyTorch's kernel."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(GROUPED_ATTENTION, grouped_attention)
        AttentionMaskInterface.register(GROUPED_ATTENTION, sdpa_mask)
        model.set_attn_implementation(GROUPED_ATTENTION)


@contextmanager
def stock_attention(model: PreTrainedModel) -> Iterator[None]:
    """Have a model attend as transformers would by itself, to be measured beside ours."""
    grouped = model.config._attn_implementation == GROUPED_ATTENTION
    if grouped:
        model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if grouped:
            model.set_attn_implementation(GROUPED_ATTENTION)


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,  # noqa: ANN401  # whatever a family passes on
) -> tuple[Tensor, None]:
    """Attend as `sdpa` of transformers does, whose keywords it takes and whose values it gives.

    Args:
        module: The model's attention.
        query: (batch, q_heads, rows, head_dim).
        key: (batch, kv_heads, tokens, head_dim).
        value: Same shape.
        attention_mask: (batch, 1 or q_heads, rows, tokens), bool or added; or none.
        dropout: Share of attention that is dropped.
        scaling: Factor on the logits.
        others: See transformers' attention interface.

    Returns:
        (batch, rows, q_heads, head_dim), and no weights.
    """
    batch, q_heads, rows, head_dim = query.shape
    kv_heads = key.shape[1]
    shared = q_heads // kv_heads
    # Without a mask, several rows are causal, which another kernel does better.
    fits = rows == 1 if attention_mask is None else attention_mask.shape[1] == 1
    known = all(others.get(name) is None for name in _UNKNOWN)
    if key.device.type != "cpu" or not (fits and known and 1 < shared <= _MOST_ROWS // rows):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    attended = scaled_dot_product_attention(
        query.reshape(batch, kv_heads, shared * rows, head_dim),
        key,
        value,
        attn_mask=None if attention_mask is None else attention_mask.repeat(1, 1, shared, 1),
        dropout_p=dropout,
        scale=scaling,
    )
    together = attended.reshape(batch, q_heads, rows, value.shape[3])
    return together.transpose(1, 2).contiguous(), None
