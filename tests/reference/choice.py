"""Scores, selection and splice, by the definition and with loops."""

import math

import torch
from torch import Tensor


def attention(
    queries: list[Tensor], keys: list[Tensor], layer: int, scaling: float
) -> list[list[list[float]]]:
    """Probability that a head's row pays each landmark of all segments, in one layer."""
    heads, rows = queries[0].shape[1:3]
    paid = []
    for head in range(heads):
        paid.append([])
        for row in range(rows):
            logits = []
            for asked, landmarks in zip(queries, keys, strict=True):
                of_head = landmarks[layer, head // (heads // landmarks.shape[1])]
                for landmark in of_head:
                    product = sum(
                        float(a) * float(b)
                        for a, b in zip(asked[layer, head, row], landmark, strict=True)
                    )
                    logits.append(product * scaling)
            total = sum(math.exp(logit - max(logits)) for logit in logits)
            paid[-1].append([math.exp(logit - max(logits)) / total for logit in logits])
    return paid


def mixture(
    queries: list[Tensor],
    keys: list[Tensor],
    groups: list[list[int]],
    weights: Tensor,
    scaling: float,
) -> list[float]:
    """Score of each landmark: attention of each head, averaged over a group's rows, weighted."""
    layers, heads, _ = weights.shape
    scores = [0.0] * sum(part.shape[2] for part in keys)
    for layer in range(layers):
        paid = attention(queries, keys, layer, scaling)
        for head in range(heads):
            for group, rows in enumerate(groups):
                for row in rows:
                    for landmark, part in enumerate(paid[head][row]):
                        share = float(weights[layer, head, group]) / len(rows)
                        scores[landmark] += share * part
    return scores


def published(queries: list[Tensor], keys: list[Tensor], scaling: float) -> list[float]:
    """Score of each landmark: last layer, all heads, all rows, summed and brought to a sum of 1."""
    paid = attention(queries, keys, len(queries[0]) - 1, scaling)
    scores = [0.0] * sum(part.shape[2] for part in keys)
    for head in paid:
        for row in head:
            for landmark, part in enumerate(row):
                scores[landmark] += part
    return [score / sum(scores) for score in scores]


def select(scores: list[float], lengths: list[int], budget: int) -> list[int]:
    """Best first, each taken where it still fits."""
    chosen: list[int] = []
    for interval in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if lengths[interval] <= budget - sum(lengths[other] for other in chosen):
            chosen.append(interval)
    return sorted(chosen)


def splice(landmarks: dict[int, Tensor], tokens: dict[int, list[Tensor]]) -> Tensor:
    """For each landmark kept, by interval: the interval's tokens if it was chosen, then itself."""
    order = []
    for interval in sorted(landmarks):
        order += tokens.get(interval, [])
        order.append(landmarks[interval])
    return torch.stack(order)
