import pytest
import torch

from acre_rag.errors import BudgetError
from acre_rag.refill import Selection, choose

SCORES = torch.tensor([0.30, 0.05, 0.10, 0.02, 0.25, 0.28])
SEGMENTS = (range(2), range(2, 4), range(4, 6))
LENGTHS = torch.tensor([4, 4, 4, 1, 4, 3])


def _choose(free: int, refill: int | None, *, keep_landmarks: bool = True) -> Selection:
    return choose(
        SCORES,
        lengths=LENGTHS,
        segment_intervals=SEGMENTS,
        keep_landmarks=keep_landmarks,
        free_tokens=free,
        refill_tokens=refill,
    )


def test_intervals_of_kept_segments_alone_are_chosen() -> None:
    # Room for the landmarks of two segments beside eleven tokens: the middle one is dropped.
    selection = _choose(15, 11)

    assert selection.segments == (0, 2)
    assert selection.intervals.tolist() == [0, 4, 5]


def test_without_landmarks_every_segment_is_kept_and_takes_no_room() -> None:
    selection = _choose(20, 20, keep_landmarks=False)

    assert selection.segments == (0, 1, 2)
    assert selection.intervals.tolist() == [0, 1, 2, 3, 4, 5]


def test_scores_are_given_as_they_were() -> None:
    assert torch.equal(_choose(100, 8).scores, SCORES)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BudgetError):
        _choose(10, 9)


def test_a_budget_for_everything_brings_back_all_that_fits_beside_the_landmarks_it_needs() -> None:
    # 20 tokens and the landmarks of the best segment would fit, but it has 7 tokens alone.
    selection = _choose(22, 20)

    assert selection.segments == (0, 1, 2)
    assert 22 - 6 - 4 < int(LENGTHS[selection.intervals].sum()) <= 22 - 6

    assert _choose(26, 20).intervals.tolist() == [0, 1, 2, 3, 4, 5]
