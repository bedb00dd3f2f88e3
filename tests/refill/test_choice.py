import pytest
import torch

from acre_rag.errors import BudgetError
from acre_rag.refill import Selection, choose

SCORES = torch.tensor([0.30, 0.05, 0.10, 0.02, 0.25, 0.28])
LENGTHS = torch.tensor([4, 4, 4, 1, 4, 3])


def _choose(free: int, refill: int | None, *, most: int | None = 10) -> Selection:
    return choose(
        SCORES, lengths=LENGTHS, most_landmarks=most, free_tokens=free, refill_tokens=refill
    )


def test_chosen_intervals_keep_their_landmarks_and_the_best_others_theirs() -> None:
    selection = _choose(100, 7, most=2)

    assert selection.intervals.tolist() == [0, 5]
    assert selection.landmarks.tolist() == [0, 2, 4, 5]


def test_as_many_landmarks_stay_as_fit_beside_the_refill() -> None:
    # Eight tokens, seven of them chosen, and the landmarks of the two; one token is left.
    assert _choose(10, 8).landmarks.tolist() == [0, 4, 5]


def test_no_other_landmarks_stay_where_none_are_wanted() -> None:
    assert _choose(100, 7, most=0).landmarks.tolist() == [0, 5]


def test_nothing_refilled_leaves_the_best_landmarks() -> None:
    selection = _choose(3, 0)

    assert selection.intervals.tolist() == []
    assert selection.landmarks.tolist() == [0, 4, 5]


def test_without_landmarks_a_refill_takes_no_other_room() -> None:
    selection = _choose(20, 20, most=None)

    assert selection.intervals.tolist() == [0, 1, 2, 3, 4, 5]
    assert selection.landmarks.tolist() == []


def test_scores_are_given_as_they_were() -> None:
    assert torch.equal(_choose(100, 8).scores, SCORES)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BudgetError):
        _choose(10, 9)


@pytest.mark.parametrize("free", range(27))
def test_refill_and_landmarks_never_take_more_than_is_free(free: int) -> None:
    selection = _choose(free, None)

    taken = int(LENGTHS[selection.intervals].sum()) + len(selection.landmarks)
    assert taken <= free
    assert set(selection.intervals.tolist()) <= set(selection.landmarks.tolist())
    assert taken == free or len(selection.landmarks) == len(SCORES)
