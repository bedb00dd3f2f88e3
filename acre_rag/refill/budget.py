"""What fits into the context for one question: how many tokens of refill beside their landmarks."""

from acre_rag.errors import BudgetError

LEAST_REFILL = 256
MOST_REFILL = 4096


def plan_refill(
    *,
    free_tokens: int,
    document_tokens: int,
    intervals: int,
    interval_tokens: int,
    most_landmarks: int | None,
    refill_tokens: int | None,
) -> int:
    """Fit a refill into the context, each interval beside its landmark.

    Intervals count as full ones; all of the documents counts as what it is. Where a choice has many
    shorter ones, whose landmarks take as much room, fewer tokens are chosen.

    Args:
        free_tokens: Context left beside prefix, question and answer.
        document_tokens: Raw tokens of all documents.
        intervals: Intervals of all documents.
        interval_tokens: Raw tokens that one landmark stands for.
        most_landmarks: Landmarks to keep of intervals that are not refilled; `None` where no
            landmark stays in the cache.
        refill_tokens: Budget asked for; more than the documents have means all of them. `None`
            takes a quarter of the documents, at least 256 and at most 4,096, within what is free
            beside the landmarks to keep, or within half of it.

    Returns:
        Most raw tokens to refill.

    Raises:
        BudgetError: The budget asked for does not fit.
        ValueError: The budget is below 0.
    """
    if refill_tokens is not None and refill_tokens < 0:
        raise ValueError(f"refill_tokens is {refill_tokens}; expected 0 or more: raise it")
    free = max(free_tokens, 0)
    interval = 0 if most_landmarks is None else interval_tokens
    whole = document_tokens + (intervals if interval else 0)
    most = min(_most_tokens(free, interval), document_tokens - int(whole > free))
    if refill_tokens is None:
        fitting = most
        if most_landmarks is not None:
            # Beside all landmarks, or those of the refill and as many others as are wanted.
            wanted = max(free - intervals, _most_tokens(free - most_landmarks, interval))
            fitting = max(wanted, _most_tokens(free // 2, interval))
        refill_tokens = min(max(document_tokens // 4, LEAST_REFILL), MOST_REFILL, fitting, most)
    refill_tokens = min(refill_tokens, document_tokens)
    if refill_tokens > most:
        landmarks = -(-refill_tokens // interval) if interval else 0
        if interval and refill_tokens == document_tokens:
            landmarks = intervals
        beside = f" with {landmarks} landmarks" if interval else ""
        raise BudgetError(
            f"a refill of {refill_tokens} tokens needs {landmarks + refill_tokens}{beside}, but "
            f"{free_tokens} are free beside prefix, question and answer; expected refill_tokens "
            f"from 0 to {most}: lower it, ask for a shorter answer, or use a model with a longer "
            "context",
            needed=landmarks + refill_tokens,
            available=free_tokens,
        )
    return refill_tokens


def _most_tokens(room: int, interval_tokens: int) -> int:
    """Fit whole intervals with their landmarks, then a shorter one; 0 keeps no landmarks."""
    if not interval_tokens:
        return room
    whole, rest = divmod(max(room, 0), interval_tokens + 1)
    return whole * interval_tokens + max(rest - 1, 0)
