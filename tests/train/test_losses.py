"""Losses and fitted weights, each against its definition."""

import math

import torch

from acre_rag.train.bank import choose_intervals
from acre_rag.train.calibrate import fit_weights, prune_weights
from acre_rag.train.losses import distillation_loss, selection_loss


def test_distillation_is_the_mean_divergence_from_the_teacher(rng: torch.Generator) -> None:
    student, teacher = torch.randn(2, 5, 7, generator=rng)

    ours = distillation_loss(student, teacher)

    rows = zip(teacher.softmax(1).tolist(), student.softmax(1).tolist(), strict=True)
    theirs = sum(a * math.log(a / b) for p, q in rows for a, b in zip(p, q, strict=True)) / 5
    torch.testing.assert_close(ours, torch.tensor(theirs))
    assert float(distillation_loss(teacher, teacher)) == 0


def test_selection_wants_every_exact_interval_but_any_of_a_long_evidence() -> None:
    scores = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    gold = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    exact = torch.tensor([True, False, True])

    ours = selection_loss(scores, gold, exact)

    theirs = (-(math.log(0.1) + math.log(0.2)) / 2 - math.log(0.3)) / 2
    torch.testing.assert_close(ours, torch.tensor(theirs))


def test_gold_intervals_come_first_only_where_forced() -> None:
    scores = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]])
    gold = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])

    chosen = choose_intervals(scores, gold, torch.tensor([True, False]), 2)

    assert chosen.tolist() == [[0, 2], [1, 2]]


def test_fitting_finds_the_heads_that_look_at_the_evidence() -> None:
    # Head (1, 2, 0) sees the evidence of two thirds of the questions, head (0, 1, 2) of the rest.
    paid = torch.full((300, 2, 3, 3), 0.01)
    paid[:200, 1, 2, 0] = 0.5
    paid[200:, 0, 1, 2] = 0.5

    weights = fit_weights(paid)
    kept = prune_weights(weights, 1e-3)

    assert kept.nonzero().tolist() == [[0, 1, 2], [1, 2, 0]]
    torch.testing.assert_close(kept[1, 2, 0], torch.tensor(2 / 3), rtol=0.02, atol=0)
    torch.testing.assert_close(kept.sum(), torch.tensor(1.0))
