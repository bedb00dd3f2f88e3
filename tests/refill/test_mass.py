"""The budget that is told from scores, against counting by hand and in a loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.refill import choose, mass_before
from acre_rag.refill.budget import LEAST_REFILL
from acre_rag.refill.mass import LEAST_AUTO, tokens_for_mass

SCORES = torch.tensor([0.05, 0.40, 0.10, 0.30, 0.15])
LENGTHS = torch.tensor([50, 60, 70, 80, 7])


def _counted(scores: list[float], lengths: list[int], mass: float) -> int:
    """Take intervals one by one, best first, until their scores reach the mass."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    reached, tokens = 0.0, 0
    for place in order:
        tokens += lengths[place]
        reached += scores[place]
        if reached >= mass:
            break
    return max(tokens, LEAST_AUTO)


@pytest.mark.parametrize(
    ("mass", "expected"), [(0.1, 64), (0.69, 140), (0.8, 147), (0.94, 217), (1.0, 267)]
)
def test_the_fewest_intervals_that_reach_the_mass_are_counted(mass: float, expected: int) -> None:
    assert tokens_for_mass(SCORES, LENGTHS, mass) == expected


@given(
    weights=st.lists(st.integers(min_value=0, max_value=1000), min_size=1, max_size=40),
    seed=st.integers(min_value=0, max_value=99),
    mass=st.floats(min_value=0.01, max_value=0.97),
)
def test_counting_in_a_loop_gives_the_same(weights: list[int], seed: int, mass: float) -> None:
    exact = torch.tensor(weights, dtype=torch.float64) + 1
    scores = (exact / exact.sum()).float()
    lengths = torch.randint(1, 17, scores.shape, generator=torch.Generator().manual_seed(seed))

    found = tokens_for_mass(scores, lengths, mass)

    # A sum that meets the mass exactly may fall to either side of it.
    expected = {
        _counted(scores.double().tolist(), lengths.tolist(), mass + nudge)
        for nudge in (-1e-9, 0.0, 1e-9)
    }
    assert found in expected


def test_scores_that_do_not_reach_the_mass_take_every_interval() -> None:
    assert tokens_for_mass(SCORES * 0.5, LENGTHS, 0.9) == int(LENGTHS.sum())


def test_sure_scores_take_fewer_tokens_than_spread_ones() -> None:
    lengths = torch.full((100,), 16)
    sure = torch.tensor([0.95] + [0.05 / 99] * 99)

    assert tokens_for_mass(sure, lengths, 0.9) == LEAST_AUTO
    assert tokens_for_mass(torch.full((100,), 0.01), lengths, 0.9) >= 90 * 16


def test_the_mass_before_wanted_intervals_is_what_must_be_passed_to_have_them() -> None:
    wanted = torch.tensor([[False, False, True, True, False], [False, True, False, False, False]])

    before = mass_before(SCORES.expand(2, -1), wanted)

    torch.testing.assert_close(before, torch.tensor([0.85, 0.0], dtype=torch.float64))
    just_above = [float(value) + 1e-6 for value in before]
    assert tokens_for_mass(SCORES, LENGTHS, just_above[0]) == 60 + 80 + 7 + 70
    assert tokens_for_mass(SCORES, LENGTHS, just_above[1]) == LEAST_AUTO


def _chosen(free: int, scores: torch.Tensor, mass: float | None) -> int:
    lengths = torch.full(scores.shape, 16)
    selection = choose(
        scores,
        lengths=lengths,
        segment_intervals=[range(len(scores))],
        keep_landmarks=True,
        free_tokens=free,
        refill_tokens="auto",
        refill_mass=mass,
    )
    return len(selection.intervals) * 16


def test_auto_refills_what_reaches_the_mass_and_at_most_what_the_default_does() -> None:
    spread = torch.full((40,), 1 / 40)

    assert _chosen(1000, spread, 0.24) == 10 * 16
    assert _chosen(1000, spread, 1.0) == LEAST_REFILL
    assert _chosen(40 + 100, spread, 1.0) == 96  # all the room there is beside the landmarks
    assert _chosen(1000, spread, None) == LEAST_REFILL  # the default wants nearly all of the score
    assert _chosen(1000, torch.tensor([0.9] + [0.1 / 39] * 39), 0.8) == LEAST_AUTO
