"""Fit selection weights alone: which heads look where the answer is.

The scores of a question are a mixture of the heads' attentions, so that the weights which make the
gold intervals most likely come from expectation maximization; the problem is convex.
"""

import torch
from torch import Tensor

from acre_rag.train.bank import Bank
from acre_rag.train.batches import QuestionBatch
from acre_rag.train.scoring import head_attention
from acre_rag.train.steps import Trainer


def gold_attention(trainer: Trainer, bank: Bank, batch: QuestionBatch) -> Tensor:
    """Measure what each head pays to each gold interval: (gold intervals, layers, q_heads, groups).

    Questions whose evidence is not a few exact intervals are left out.
    """
    queries, keys = trainer.landmark_queries(bank, batch)
    groups = batch.groups[:, :, : queries[0].shape[2]]
    question, interval = ((batch.gold > 0) & batch.exact[:, None]).nonzero(as_tuple=True)
    paid = []
    for asked, landmarks in zip(queries, keys, strict=True):
        attention = head_attention(asked, landmarks, groups, trainer.twin.shape.scaling)
        paid.append(attention[question, :, :, interval])
    return torch.stack(paid, dim=1)


def fit_weights(paid: Tensor, *, rounds: int = 500, start: Tensor | None = None) -> Tensor:
    """Find the weights that make the gold intervals most likely.

    Args:
        paid: (gold intervals, layers, q_heads, groups).
        rounds: Rounds of expectation maximization.
        start: Weights to start from; all alike where there are none.

    Returns:
        (layers, q_heads, groups), adding up to 1, float32.
    """
    flat = paid.flatten(1).double()
    weights = torch.full_like(flat[0], 1 / flat.shape[1])
    if start is not None:
        weights = start.flatten().to(flat) + 1e-7
    for _ in range(rounds):
        mixed = flat @ weights
        weights = weights * ((1 / mixed.clamp(min=1e-12)) @ flat) / len(flat)
        weights = weights / weights.sum()
    return weights.float().view(paid.shape[1:])


def prune_weights(weights: Tensor, smallest: float) -> Tensor:
    """Drop weights below `smallest`, so that scoring can skip whole layers."""
    kept = torch.where(weights >= smallest, weights, torch.zeros_like(weights))
    return kept / kept.sum()
