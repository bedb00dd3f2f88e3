import torch
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.refill.selection import select_intervals
from tests.reference import choice

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=12)


@given(lengths=LENGTHS, budget=st.integers(0, 60), seed=st.integers(0, 99))
def test_the_best_that_fit_are_chosen_in_document_order(
    lengths: list[int], budget: int, seed: int
) -> None:
    scores = torch.rand(len(lengths), generator=torch.Generator().manual_seed(seed))

    ours = select_intervals(scores, torch.tensor(lengths), budget).tolist()

    assert ours == choice.select(scores.tolist(), lengths, budget)
    assert sum(lengths[interval] for interval in ours) <= budget


def test_equal_scores_are_taken_from_the_front() -> None:
    chosen = select_intervals(torch.ones(5), torch.full((5,), 4), 8)

    assert chosen.tolist() == [0, 1]


def test_the_short_last_interval_fills_what_is_left() -> None:
    chosen = select_intervals(torch.tensor([0.5, 0.4, 0.1]), torch.tensor([4, 4, 2]), 6)

    assert chosen.tolist() == [0, 2]


def test_budget_0_chooses_nothing() -> None:
    assert select_intervals(torch.rand(3), torch.full((3,), 4), 0).tolist() == []
