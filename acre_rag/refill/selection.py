"""Which intervals a question chooses, within a budget of tokens."""

import torch
from torch import Tensor


def best_first(scores: Tensor) -> Tensor:
    """Order intervals by score, equal ones as they come: (intervals,), int64."""
    return torch.argsort(scores, descending=True, stable=True)


def select_intervals(
    scores: Tensor, lengths: Tensor, refill_tokens: int, *, room: int | None = None, beside: int = 0
) -> Tensor:
    """Choose the best-scoring intervals whose tokens fit the budget together.

    An interval that no longer fits is passed over for a shorter one further down.

    Args:
        scores: (intervals,).
        lengths: Raw tokens of each interval, (intervals,), int64.
        refill_tokens: Most raw tokens to choose.
        room: Tokens that they may take with what each has beside it; `None` for any number.
        beside: Tokens that each interval takes beside its own.

    Returns:
        Chosen intervals, rising, (chosen,), int64.
    """
    left = refill_tokens
    free = refill_tokens + beside * len(lengths) if room is None else room
    shortest = int(lengths.min())
    sizes = lengths.tolist()
    chosen = []
    for interval in best_first(scores).tolist():
        if min(left, free - beside) < shortest:
            break
        if sizes[interval] <= min(left, free - beside):
            chosen.append(interval)
            left -= sizes[interval]
            free -= sizes[interval] + beside
    return torch.tensor(sorted(chosen), dtype=torch.int64)
