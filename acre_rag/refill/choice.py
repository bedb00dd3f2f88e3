"""From scores to what goes into the cache: kept segments, chosen intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from acre_rag.config import RefillTokens
from acre_rag.refill.budget import plan_budget
from acre_rag.refill.needed import DEFAULT_SCORE, tokens_from
from acre_rag.refill.selection import select_intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which intervals a question chose.

    Intervals are numbered through all documents asked, in order.

    Attributes:
        scores: Score of every interval, adding up to 1, float32, (intervals,).
        segments: Segments whose landmarks are kept.
        intervals: Chosen intervals, rising, (chosen,), int64.
    """

    scores: Tensor
    segments: tuple[int, ...]
    intervals: Tensor


def choose(
    scores: Tensor,
    *,
    lengths: Tensor,
    segment_intervals: Sequence[range],
    keep_landmarks: bool,
    free_tokens: int,
    refill_tokens: RefillTokens,
    refill_score: float | None = None,
) -> Selection:
    """Keep the segments and choose the intervals that fit the context together.

    Args:
        scores: (intervals,), on any device.
        lengths: Raw tokens of each interval, (intervals,), int64.
        segment_intervals: Intervals of each segment.
        keep_landmarks: Whether L1 stays in the cache, and so takes room.
        free_tokens: Context left beside prefix, question and answer.
        refill_tokens: Most raw tokens to refill; `None` takes the default; `auto` at most as many,
            fewer where fewer score enough.
        refill_score: Score from which `auto` refills intervals; `None` takes `DEFAULT_SCORE`.

    Raises:
        BudgetError: It does not fit; see `plan_budget`.
    """
    scores = scores.cpu()
    plan = partial(
        plan_budget,
        free_tokens=free_tokens,
        segment_landmarks=[len(span) if keep_landmarks else 0 for span in segment_intervals],
        segment_scores=[float(scores[span.start : span.stop].sum()) for span in segment_intervals],
        segment_tokens=[int(lengths[span.start : span.stop].sum()) for span in segment_intervals],
    )
    if refill_tokens == "auto":
        most = plan(refill_tokens=None).refill_tokens
        least = DEFAULT_SCORE if refill_score is None else refill_score
        refill_tokens = min(tokens_from(scores, lengths, least), most)
    budget = plan(refill_tokens=refill_tokens)
    kept = torch.full_like(scores, -torch.inf)
    for segment in budget.segments:
        span = segment_intervals[segment]
        kept[span.start : span.stop] = scores[span.start : span.stop]
    # Intervals of segments that were dropped have no landmark to stand before.
    allowed = kept.isfinite().nonzero().flatten()
    chosen = select_intervals(kept[allowed], lengths[allowed], budget.refill_tokens)
    return Selection(scores=scores, segments=budget.segments, intervals=allowed[chosen])
