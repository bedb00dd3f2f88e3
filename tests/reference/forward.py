"""One forward pass over all rows at once: stock modules of a family, attention row by row.

The model is a copy whose rotary embedding rotates nothing; queries and keys are rotated here, by
the definition, at the positions that the rows say. Landmark rows go through dense projections.
"""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from tests.reference.rows import Row


@dataclass
class Seen:
    """What a pass saw: per layer (heads, rows, head_dim), not rotated; logits (rows, words)."""

    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


def run(model: PreTrainedModel, rows: list[Row], adapter: object = None) -> Seen:
    """Run all rows through the model in float32, whatever the model computes in."""
    plain = copy.deepcopy(model).float()
    flags = torch.tensor([row.token is None for row in rows])
    embedded = plain.get_input_embeddings()(torch.tensor([row.token or 0 for row in rows]))
    if adapter is not None:
        embedded[flags] = adapter.embedding.float()
        for layer, projections in zip(plain.model.layers, adapter.projections, strict=True):
            _give_projections(layer.self_attn, projections, flags)
    rotary = plain.model.rotary_emb
    plain.model.rotary_emb = _Unrotated(len(rotary.inv_freq))
    AttentionInterface.register("row_by_row", _attend)
    plain.set_attn_implementation("row_by_row")
    seen = Seen()
    with torch.no_grad():
        output = plain(
            inputs_embeds=embedded[None], use_cache=False, rows=rows, seen=seen, rotary=rotary
        )
    seen.logits = output.logits[0]
    return seen


def rotate(states: Tensor, position: int | Tensor, frequencies: Tensor, scale: float) -> Tensor:
    """Rotate the first pairs of the last axis by position x frequency, halves paired."""
    half = len(frequencies)
    angles = torch.as_tensor(position)[..., None] * frequencies.float()
    first, second, rest = states[..., :half], states[..., half : 2 * half], states[..., 2 * half :]
    cos, sin = angles.cos() * scale, angles.sin() * scale
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


class _Unrotated(nn.Module):
    def __init__(self, half: int) -> None:
        super().__init__()
        self.half = half

    def forward(self, _states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*position_ids.shape, 2 * self.half)
        return torch.ones(shape), torch.zeros(shape)


class _TwoLinears(nn.Module):
    """One linear map for ordinary rows, another for landmarks."""

    def __init__(
        self, linear: nn.Linear, weight: Tensor, bias: Tensor | None, flags: Tensor
    ) -> None:
        super().__init__()
        self.linear, self.other, self.bias, self.flags = linear, weight, bias, flags

    def forward(self, inputs: Tensor) -> Tensor:
        other = inputs @ self.other.T
        if self.bias is not None:
            other = other + self.bias
        return torch.where(self.flags[None, :, None], other, self.linear(inputs))


def _give_projections(attention: nn.Module, projections: dict, flags: Tensor) -> None:
    if not hasattr(attention, "qkv_proj"):
        for name, projection in projections.items():
            linear = getattr(attention, f"{name}_proj")
            weight, bias = dense(projection, linear.weight, linear.bias)
            setattr(attention, f"{name}_proj", _TwoLinears(linear, weight, bias, flags))
        return
    weights, biases, start = [], [], 0
    linear = attention.qkv_proj
    for name in ("q", "k", "v"):
        projection = projections[name]
        width = len(projection.up if hasattr(projection, "up") else projection.weight)
        weight, bias = dense(projection, linear.weight[start : start + width], None)
        weights.append(weight)
        biases.append(torch.zeros(width) if bias is None else bias)
        start += width
    attention.qkv_proj = _TwoLinears(linear, torch.cat(weights), torch.cat(biases), flags)


def dense(projection: object, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias that a landmark's row meets in place of the model's own."""
    if hasattr(projection, "up"):
        return weight + projection.up.float() @ projection.down.float(), bias
    own = projection.bias
    return projection.weight.float(), None if own is None else own.float()


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    scaling: float,
    rows: list[Row],
    seen: Seen,
    rotary: nn.Module,
    **_unused: object,
) -> tuple[Tensor, None]:
    seen.queries.append(query[0])
    seen.keys.append(key[0])
    seen.values.append(value[0])
    turns = getattr(module, "use_rope", True)
    group = query.shape[1] // key.shape[1]
    out = torch.empty_like(query[0])
    for number, row in enumerate(rows):
        keys = torch.stack([_mean(key[0], together) for together, _ in row.sees], dim=1)
        values = torch.stack([_mean(value[0], together) for together, _ in row.sees], dim=1)
        own = query[0][:, number]
        if turns:
            keys = _turn(keys, torch.tensor([position for _, position in row.sees]), rotary)
            own = _turn(own, row.position, rotary)
        for head in range(len(own)):
            weights = (keys[head // group] @ own[head] * scaling).softmax(dim=0)
            out[head, number] = weights @ values[head // group]
    return out.transpose(0, 1)[None].contiguous(), None


def _mean(states: Tensor, together: tuple[int, ...]) -> Tensor:
    if len(together) == 1:
        return states[:, together[0]]
    return sum(states[:, row] for row in together) / len(together)


def _turn(states: Tensor, position: int | Tensor, rotary: nn.Module) -> Tensor:
    return rotate(states, position, rotary.inv_freq, float(rotary.attention_scaling))
