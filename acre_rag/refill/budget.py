"""What fits into the context for one question: whose landmarks, and how many tokens of refill."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from acre_rag.errors import BudgetError

LEAST_REFILL = 256
MOST_REFILL = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What goes into the refilled cache.

    Attributes:
        segments: Segments whose landmarks are kept, in document order.
        refill_tokens: Most raw tokens to refill, all from those segments.
    """

    segments: tuple[int, ...]
    refill_tokens: int


def plan_budget(
    *,
    free_tokens: int,
    segment_landmarks: Sequence[int],
    segment_scores: Sequence[float],
    segment_tokens: Sequence[int],
    refill_tokens: int | None,
) -> Budget:
    """Fit landmarks and refill into the context.

    The refill comes first; then the landmarks of the best-scoring segments, as many as fit, and
    always those of the best one. Only where the refill is more than the segments that then fit
    have, it gives way to the landmarks of more of them, as far as that brings back more tokens.

    Args:
        free_tokens: Context left beside prefix, question and answer.
        segment_landmarks: Landmarks of each segment that stay in the cache.
        segment_scores: Score that each segment's intervals have together.
        segment_tokens: Raw tokens of each segment.
        refill_tokens: Budget asked for; more than the documents have means all of them. `None`
            takes a quarter of the documents, at least 256 and at most 4,096, within what is free.

    Raises:
        BudgetError: The budget asked for does not fit, or there is no room at all.
        ValueError: The budget is below 0.
    """
    if refill_tokens is not None and refill_tokens < 0:
        raise ValueError(f"refill_tokens is {refill_tokens}; expected 0 or more: raise it")
    document_tokens = sum(segment_tokens)
    ranked = sorted(range(len(segment_scores)), key=lambda i: segment_scores[i], reverse=True)
    landmarks = segment_landmarks[ranked[0]]
    room = free_tokens - landmarks
    if room < 0:
        raise BudgetError(
            f"the landmarks of one segment need {landmarks} tokens, but {max(free_tokens, 0)} are "
            "free beside prefix, question and answer; expected room for them: shorten the "
            "question, lower max_new_tokens, or use a model with a longer context",
            needed=landmarks,
            available=max(free_tokens, 0),
        )
    if refill_tokens is None:
        refill_tokens = min(max(document_tokens // 4, LEAST_REFILL), MOST_REFILL, room)
    # What short documents cannot fill is left to the landmarks of others.
    refill_tokens = min(refill_tokens, document_tokens)
    if refill_tokens > room:
        raise BudgetError(
            f"a refill of {refill_tokens} tokens needs {landmarks + refill_tokens} with its "
            f"landmarks, but {free_tokens} are free beside prefix, question and answer; expected "
            f"refill_tokens from 0 to {room}: lower it, ask for a shorter answer, or use a model "
            "with a longer context",
            needed=landmarks + refill_tokens,
            available=free_tokens,
        )
    landmark_sums = accumulate(segment_landmarks[segment] for segment in ranked)
    token_sums = accumulate(segment_tokens[segment] for segment in ranked)
    refill_tokens = max(
        min(refill_tokens, tokens, free_tokens - landmarks)
        for landmarks, tokens in zip(landmark_sums, token_sums, strict=True)
    )
    kept = []
    left = free_tokens - refill_tokens
    for segment in ranked:
        if segment_landmarks[segment] <= left:
            kept.append(segment)
            left -= segment_landmarks[segment]
    return Budget(segments=tuple(sorted(kept)), refill_tokens=refill_tokens)
