"""A whole Llama decoder in loops over rows and heads, from its weights alone."""

import math

import torch
from torch import Tensor

from tests.reference.forward import dense, rotate
from tests.reference.rows import Row


def logits(
    weights: dict[str, Tensor],
    rows: list[Row],
    *,
    heads: int,
    kv_heads: int,
    theta: float,
    epsilon: float,
    adapter: object = None,
) -> Tensor:
    """Logits of every row, (rows, words)."""
    weights = {name: weight.float() for name, weight in weights.items()}
    embedding = weights["model.embed_tokens.weight"]
    states = [embedding[r.token] if r.token is not None else adapter.embedding for r in rows]
    layers = 1 + max(int(name.split(".")[2]) for name in weights if ".layers." in name)
    for layer in range(layers):
        part = {
            name.split(f"layers.{layer}.")[1]: weight
            for name, weight in weights.items()
            if f"layers.{layer}." in name
        }
        normed = [_norm(state, part["input_layernorm.weight"], epsilon) for state in states]
        landmark = None if adapter is None else adapter.projections[layer]
        q, k, v = (
            [_project(row, x, part, name, landmark) for row, x in zip(rows, normed, strict=True)]
            for name in "qkv"
        )
        for number, row in enumerate(rows):
            attended = _attend(row, q[number], k, v, heads, kv_heads, theta)
            states[number] = states[number] + part["self_attn.o_proj.weight"] @ attended
        for number, state in enumerate(states):
            x = _norm(state, part["post_attention_layernorm.weight"], epsilon)
            gate = part["mlp.gate_proj.weight"] @ x
            up = part["mlp.up_proj.weight"] @ x
            inner = gate / (1 + torch.exp(-gate)) * up
            states[number] = state + part["mlp.down_proj.weight"] @ inner
    final = [_norm(state, weights["model.norm.weight"], epsilon) for state in states]
    return torch.stack([weights["lm_head.weight"] @ state for state in final])


def _norm(state: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    mean_square = sum(float(x) ** 2 for x in state) / len(state)
    return weight * state / math.sqrt(mean_square + epsilon)


def _project(
    row: Row, x: Tensor, part: dict[str, Tensor], name: str, landmark: dict | None
) -> Tensor:
    weight, bias = part[f"self_attn.{name}_proj.weight"], None
    if row.token is None:
        weight, bias = dense(landmark[name], weight, None)
    return weight @ x if bias is None else weight @ x + bias


def _attend(
    row: Row,
    query: Tensor,
    keys: list[Tensor],
    values: list[Tensor],
    heads: int,
    kv_heads: int,
    theta: float,
) -> Tensor:
    size = len(query) // heads
    frequencies = torch.tensor([theta ** (-2 * i / size) for i in range(size // 2)])
    out = []
    for head in range(heads):
        place = slice(head // (heads // kv_heads) * size, (head // (heads // kv_heads) + 1) * size)
        asked = rotate(query[head * size : (head + 1) * size], row.position, frequencies, 1.0)
        products, seen = [], []
        for (one,), position in row.sees:
            key = rotate(keys[one][place], position, frequencies, 1.0)
            products.append(float(asked @ key) / math.sqrt(size))
            seen.append(values[one][place])
        largest = max(products)
        weights = [math.exp(product - largest) for product in products]
        mixed = sum(w * value for w, value in zip(weights, seen, strict=True))
        out.append(mixed / sum(weights))
    return torch.cat(out)
