import pytest

from acre_rag.errors import BudgetError
from acre_rag.refill.budget import LEAST_REFILL, MOST_REFILL, Budget, plan_budget

ROOMY = 100_000


def _plan(
    free: int,
    refill: int | None,
    landmarks: tuple[int, ...] = (10, 20, 30),
    scores: tuple[float, ...] = (0.2, 0.5, 0.3),
    tokens: tuple[int, ...] = (240, 480, 240),
) -> Budget:
    return plan_budget(
        free_tokens=free,
        segment_landmarks=landmarks,
        segment_scores=scores,
        segment_tokens=tokens,
        refill_tokens=refill,
    )


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(4000, 1000), (800, LEAST_REFILL), (40_000, MOST_REFILL), (100, 100)],
)
def test_the_default_is_a_quarter_of_the_documents_within_bounds(
    tokens: int, expected: int
) -> None:
    assert _plan(ROOMY, None, tokens=(0, tokens, 0)).refill_tokens == expected


def test_the_default_shrinks_to_what_is_free_beside_the_best_segment() -> None:
    assert _plan(120, None) == Budget(segments=(1,), refill_tokens=100)


def test_what_was_asked_for_is_kept_to_the_token() -> None:
    assert _plan(ROOMY, 37).refill_tokens == 37


def test_landmarks_of_the_best_segments_that_fit_are_kept_in_document_order() -> None:
    # 20 for the best, 30 for the next; the worst would need 10 more.
    assert _plan(59, 0).segments == (1, 2)
    assert _plan(60, 0).segments == (0, 1, 2)


def test_a_smaller_segment_takes_the_room_that_a_better_one_cannot_use() -> None:
    assert _plan(35, 0).segments == (0, 1)


def test_the_largest_refill_that_fits_is_accepted_and_one_more_is_not() -> None:
    assert _plan(50, 30).refill_tokens == 30

    with pytest.raises(BudgetError, match="from 0 to 30") as caught:
        _plan(50, 31)

    assert (caught.value.needed, caught.value.available) == (51, 50)


@pytest.mark.parametrize(("free", "refill"), [(19, None), (19, 0), (-5, None)])
def test_where_not_even_one_segments_landmarks_fit_the_message_says_so(
    free: int, refill: int | None
) -> None:
    with pytest.raises(BudgetError, match=f"need 20 tokens, but {max(free, 0)} are free") as caught:
        _plan(free, refill)

    assert (caught.value.needed, caught.value.available) == (20, max(free, 0))


def test_a_budget_beyond_the_documents_is_all_of_them() -> None:
    assert _plan(90, 10**9, tokens=(0, 70, 0)) == Budget(segments=(1,), refill_tokens=70)

    with pytest.raises(BudgetError, match=r"a refill of 70 tokens .* from 0 to 69"):
        _plan(89, 10**9, tokens=(0, 70, 0))


@pytest.mark.parametrize("free", range(20, 160))
def test_the_refill_is_the_most_that_any_number_of_the_best_segments_allows(free: int) -> None:
    landmarks, tokens, ranked = (10, 20, 30), (40, 30, 20), (1, 2, 0)

    plan = _plan(free, min(90, free - 20), tokens=tokens)

    possible = []
    for count in (1, 2, 3):
        beside = free - sum(landmarks[segment] for segment in ranked[:count])
        possible.append(min(sum(tokens[segment] for segment in ranked[:count]), beside))
    assert plan.refill_tokens == max(possible)
    assert sum(tokens[segment] for segment in plan.segments) >= plan.refill_tokens
    assert sum(landmarks[segment] for segment in plan.segments) + plan.refill_tokens <= free


def test_a_budget_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="refill_tokens is -1; expected 0 or more"):
        _plan(ROOMY, -1)
