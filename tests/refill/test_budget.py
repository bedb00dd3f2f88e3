import pytest

from acre_rag.errors import BudgetError
from acre_rag.refill.budget import LEAST_REFILL, MOST_REFILL, plan_refill

ROOMY = 100_000


def _plan(
    free: int, refill: int | None, *, tokens: int = 960, interval: int = 4, most: int | None = 10
) -> int:
    return plan_refill(
        free_tokens=free,
        document_tokens=tokens,
        intervals=-(-tokens // interval),
        interval_tokens=interval,
        most_landmarks=most,
        refill_tokens=refill,
    )


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(4000, 1000), (800, LEAST_REFILL), (40_000, MOST_REFILL), (100, 100)],
)
def test_the_default_is_a_quarter_of_the_documents_within_bounds(
    tokens: int, expected: int
) -> None:
    assert _plan(ROOMY, None, tokens=tokens) == expected


def test_what_was_asked_for_is_kept_to_the_token() -> None:
    assert _plan(ROOMY, 37) == 37


@pytest.mark.parametrize("most", [None, 0, 3, 10])
@pytest.mark.parametrize("interval", [1, 4, 7])
@pytest.mark.parametrize("free", range(40))
def test_the_default_shrinks_to_what_fits_beside_the_landmarks_or_to_half(
    free: int, interval: int, most: int | None
) -> None:
    intervals = -(-60 // interval)

    def taken(tokens: int) -> int:
        chosen = -(-tokens // interval)
        return tokens + (0 if most is None else min(chosen + most, intervals))

    def alone(tokens: int) -> int:
        return tokens + (0 if most is None else -(-tokens // interval))

    fitting = [tokens for tokens in range(61) if taken(tokens) <= free]
    half = [tokens for tokens in range(61) if alone(tokens) <= free // 2]

    assert _plan(free, None, tokens=60, interval=interval, most=most) == max(fitting + half)


def test_the_largest_refill_that_fits_is_accepted_and_one_more_is_not() -> None:
    assert _plan(50, 40) == 40

    with pytest.raises(BudgetError, match="from 0 to 40") as caught:
        _plan(50, 41)

    assert (caught.value.needed, caught.value.available) == (52, 50)


def test_a_budget_beyond_the_documents_is_all_of_them() -> None:
    assert _plan(90, 10**9, tokens=70) == 70

    with pytest.raises(
        BudgetError, match=r"a refill of 70 tokens needs 88 with 18 landmarks, .* from 0 to 69"
    ):
        _plan(87, 10**9, tokens=70)


def test_all_of_many_short_documents_needs_a_landmark_for_each_of_their_intervals() -> None:
    # Two passages of five tokens: intervals of four and one, twice.
    def plan(free: int) -> int:
        return plan_refill(
            free_tokens=free,
            document_tokens=10,
            intervals=4,
            interval_tokens=4,
            most_landmarks=0,
            refill_tokens=10,
        )

    assert plan(14) == 10
    with pytest.raises(BudgetError, match=r"10 tokens needs 14 with 4 landmarks.* from 0 to 9"):
        plan(13)


def test_without_landmarks_the_message_speaks_of_none() -> None:
    with pytest.raises(BudgetError, match="a refill of 50 tokens needs 50, but 49 are free"):
        _plan(49, 50, most=None)


def test_a_budget_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="refill_tokens is -1; expected 0 or more"):
        _plan(ROOMY, -1)
