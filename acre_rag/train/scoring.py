"""Scores of intervals for a batch of questions, as `acre_rag.refill.mixture_scores` has them."""

import torch
from torch import Tensor

from acre_rag.model.training_passes import Layers


def head_attention(
    queries: Tensor, landmark_keys: Tensor, groups: Tensor, scaling: float
) -> Tensor:
    """Attend to landmarks in one layer, averaged over each question group.

    Args:
        queries: Not rotated, (questions, q_heads, rows, head_dim).
        landmark_keys: Not rotated, (questions, kv_heads, landmarks, head_dim).
        groups: Share of each row in each group, (questions, groups, rows).
        scaling: Factor on the logits.

    Returns:
        Probabilities, float32, (questions, q_heads, groups, landmarks).
    """
    kv_heads = landmark_keys.shape[1]
    grouped = queries.float().unflatten(1, (kv_heads, -1)).flatten(2, 3)
    logits = grouped @ landmark_keys.float().transpose(2, 3) * scaling
    logits = logits.unflatten(2, (-1, queries.shape[2])).flatten(1, 2)
    mixed: Tensor = groups[:, None] @ logits.softmax(dim=3)
    return mixed


def batch_scores(
    queries: Layers, landmark_keys: Layers, groups: Tensor, weights: Tensor, scaling: float
) -> Tensor:
    """Mix the heads of all layers: (questions, intervals), float32, adding up to 1.

    Args:
        queries: Not rotated, (questions, q_heads, rows, head_dim) in each layer.
        landmark_keys: Not rotated, (questions, kv_heads, landmarks, head_dim) in each layer.
        groups: Share of each row in each group, (questions, groups, rows).
        weights: (layers, q_heads, groups), adding up to 1.
        scaling: Factor on the logits.
    """
    scores = torch.zeros(
        len(groups), landmark_keys[0].shape[2], device=groups.device, dtype=torch.float32
    )
    for layer, (asked, keys) in enumerate(zip(queries, landmark_keys, strict=True)):
        attention = head_attention(asked, keys, groups, scaling)
        scores = scores + torch.einsum("qhgl,hg->ql", attention, weights[layer])
    return scores
