"""From scores to what goes into the cache: chosen intervals, and the landmarks that stay."""

from dataclasses import dataclass

import torch
from torch import Tensor

from acre_rag.config import RefillTokens
from acre_rag.refill.budget import plan_refill
from acre_rag.refill.needed import DEFAULT_SCORE, tokens_from
from acre_rag.refill.selection import best_first, select_intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which intervals a question chose.

    Intervals are numbered through all documents asked, in order.

    Attributes:
        scores: Score of every interval, adding up to 1, float32, (intervals,).
        intervals: Chosen intervals, rising, (chosen,), int64.
        landmarks: Intervals whose landmarks stay in the cache, rising, (kept,), int64: all chosen
            ones, and the best-scoring others; none in the training-free mode.
    """

    scores: Tensor
    intervals: Tensor
    landmarks: Tensor


def choose(
    scores: Tensor,
    *,
    lengths: Tensor,
    most_landmarks: int | None,
    free_tokens: int,
    refill_tokens: RefillTokens,
    refill_score: float | None = None,
) -> Selection:
    """Choose the intervals and the landmarks that fit the context together.

    The refill comes first, each interval with its landmark; then the landmarks of others, from the
    best-scoring on, as many as are wanted and fit.

    Args:
        scores: (intervals,), on any device.
        lengths: Raw tokens of each interval, (intervals,), int64.
        most_landmarks: Most landmarks to keep of intervals that are not refilled; `None` where no
            landmark stays in the cache.
        free_tokens: Context left beside prefix, question and answer.
        refill_tokens: Most raw tokens to refill; `None` takes the default; `auto` at most as many,
            fewer where fewer score enough.
        refill_score: Score from which `auto` refills intervals; `None` takes `DEFAULT_SCORE`.

    Raises:
        BudgetError: The refill that was asked for does not fit.
    """
    scores = scores.cpu()
    most = plan_refill(
        free_tokens=free_tokens,
        document_tokens=int(lengths.sum()),
        intervals=len(lengths),
        interval_tokens=int(lengths.max()),
        most_landmarks=most_landmarks,
        refill_tokens=None if refill_tokens == "auto" else refill_tokens,
    )
    if refill_tokens == "auto":
        least = DEFAULT_SCORE if refill_score is None else refill_score
        most = min(tokens_from(scores, lengths, least), most)
    beside = int(most_landmarks is not None)  # tokens that an interval takes beside its own
    chosen = select_intervals(scores, lengths, most, room=free_tokens, beside=beside)
    if most_landmarks is None:
        return Selection(scores=scores, intervals=chosen, landmarks=chosen[:0])
    left = free_tokens - int(lengths[chosen].sum()) - len(chosen)
    raised = scores.index_fill(0, chosen, torch.inf)
    kept = best_first(raised)[: len(chosen) + max(min(most_landmarks, left), 0)]
    return Selection(scores=scores, intervals=chosen, landmarks=kept.sort().values)
