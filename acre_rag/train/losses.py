"""What the two stages minimize."""

import torch
from torch import Tensor

from acre_rag.train.batches import IGNORED


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of the student's next token from the teacher's.

    Args:
        student: Logits, (positions, vocabulary).
        teacher: Logits, same shape, no gradient.
    """
    wanted = teacher.float().log_softmax(dim=1)
    found = student.float().log_softmax(dim=1)
    return (wanted.exp() * (wanted - found)).sum(dim=1).mean()


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of answer tokens: logits (tokens, vocabulary), targets (tokens,)."""
    return torch.nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)


def selection_loss(scores: Tensor, gold: Tensor, exact: Tensor) -> Tensor:
    """Negative log of the scores of gold intervals, over the questions that have any.

    Where the gold intervals are the answer's own, each of them is wanted; where all of a longer
    evidence is gold, any of it will do.

    Args:
        scores: (questions, intervals), adding up to 1.
        gold: Share of each interval in the gold evidence, same shape.
        exact: Whether the gold intervals are the answer's own, (questions,).
    """
    smallest = 1e-8  # keeps a score that underflowed from giving an infinite loss
    each = -(gold * (scores + smallest).log()).sum(dim=1)
    any_of_them = -((scores * (gold > 0)).sum(dim=1) + smallest).log()
    answered = gold.sum(dim=1) > 0
    losses = torch.where(exact, each, any_of_them)
    return (losses * answered).sum() / answered.sum().clamp(min=1)
