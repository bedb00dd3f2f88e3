"""Which intervals a question chooses, within a budget of tokens."""

import torch
from torch import Tensor


def select_intervals(scores: Tensor, lengths: Tensor, refill_tokens: int) -> Tensor:
    """Choose the best-scoring intervals whose tokens fit the budget together.

    An interval that no longer fits is passed over for a shorter one further down.

    Args:
        scores: (intervals,).
        lengths: Raw tokens of each interval, (intervals,), int64.
        refill_tokens: Most raw tokens to choose.

    Returns:
        Chosen intervals, rising, (chosen,), int64.
    """
    left = refill_tokens
    shortest = int(lengths.min())
    sizes = lengths.tolist()
    chosen = []
    for interval in torch.argsort(scores, descending=True, stable=True).tolist():
        if left < shortest:
            break
        if sizes[interval] <= left:
            chosen.append(interval)
            left -= sizes[interval]
    return torch.tensor(sorted(chosen), dtype=torch.int64)
