"""The budget that is told from scores, against counting in a loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.refill import choose, least_wanted
from acre_rag.refill.budget import LEAST_REFILL
from acre_rag.refill.needed import LEAST_AUTO, tokens_from

SCORES = torch.tensor([0.05, 0.40, 0.10, 0.30, 0.15])
LENGTHS = torch.tensor([50, 60, 70, 80, 7])


@pytest.mark.parametrize(
    ("least", "expected"), [(0.5, 64), (0.4, 64), (0.3, 140), (0.12, 147), (0.1, 217), (0.01, 267)]
)
def test_all_intervals_that_score_enough_are_counted(least: float, expected: int) -> None:
    scores = SCORES if least != 0.4 else SCORES.double()  # 0.4 is not the same in float32
    assert tokens_from(scores, LENGTHS, least) == expected


@given(
    weights=st.lists(st.integers(min_value=0, max_value=1000), min_size=1, max_size=40),
    seed=st.integers(min_value=0, max_value=99),
    least=st.floats(min_value=1e-4, max_value=1.0),
)
def test_counting_in_a_loop_gives_the_same(weights: list[int], seed: int, least: float) -> None:
    exact = torch.tensor(weights, dtype=torch.float64) + 1
    scores = exact / exact.sum()
    lengths = torch.randint(1, 17, scores.shape, generator=torch.Generator().manual_seed(seed))

    found = tokens_from(scores, lengths, least)

    counted = 0
    for score, length in zip(scores.tolist(), lengths.tolist(), strict=True):
        counted += length if score >= least else 0
    assert found == max(counted, LEAST_AUTO)


def test_from_the_score_of_the_worst_wanted_interval_on_all_of_them_are_refilled() -> None:
    wanted = torch.tensor([[False, False, True, True, False], [False, True, False, False, False]])

    least = least_wanted(SCORES.expand(2, -1), wanted)

    assert torch.equal(least, torch.tensor([0.10, 0.40]))
    assert tokens_from(SCORES, LENGTHS, float(least[0])) == 60 + 80 + 7 + 70
    assert tokens_from(SCORES, LENGTHS, float(least[1])) == LEAST_AUTO


def _chosen(free: int, scores: torch.Tensor, least: float | None) -> int:
    lengths = torch.full(scores.shape, 16)
    selection = choose(
        scores,
        lengths=lengths,
        most_landmarks=40,
        free_tokens=free,
        refill_tokens="auto",
        refill_score=least,
    )
    return len(selection.intervals) * 16


def test_auto_refills_what_scores_enough_and_at_most_what_the_default_does() -> None:
    spread = torch.full((40,), 1 / 40)
    few = torch.tensor([0.1] * 9 + [0.1 / 31] * 31)

    assert _chosen(1000, few, 0.05) == 9 * 16
    assert _chosen(1000, few, 0.5) == LEAST_AUTO
    assert _chosen(1000, few, 1e-3) == LEAST_REFILL
    assert _chosen(40 + 100, spread, 1e-3) == 96  # all the room there is beside the landmarks
    assert _chosen(1000, few, None) == 9 * 16  # the default lies between
