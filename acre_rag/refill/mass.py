"""How many tokens a question needs, told from its scores: one detail, or half of the document.

Our rule for the "dynamic" in ACRE's name: scores add up to 1, so what the best intervals have
together says how sure the choice is of them.
"""

import torch
from torch import Tensor

LEAST_AUTO = 64
DEFAULT_MASS = 0.9
"""Mass to reach where none was fitted."""


def tokens_for_mass(scores: Tensor, lengths: Tensor, mass: float) -> int:
    """Count the tokens of the fewest intervals, best first, whose scores reach a mass together.

    Args:
        scores: At least 0, adding up to 1, float32, (intervals,).
        lengths: Raw tokens of each interval, (intervals,), int64.
        mass: Share of the score to reach, above 0; all intervals where they do not reach it.

    Returns:
        Raw tokens, `LEAST_AUTO` or more.
    """
    best = torch.argsort(scores, descending=True, stable=True)
    reached = scores[best].double().cumsum(0)
    count = min(int((reached < mass).sum()) + 1, len(best))
    return max(int(lengths[best[:count]].sum()), LEAST_AUTO)


def mass_before(scores: Tensor, wanted: Tensor) -> Tensor:
    """Measure what scores above the worst wanted interval: the mass to reach to have them all.

    Args:
        scores: (questions, intervals), each row adding up to 1.
        wanted: Which intervals are wanted, same shape, one or more in each row.

    Returns:
        (questions,); all wanted intervals are chosen by any mass above it.
    """
    worst = scores.double().masked_fill(~wanted, torch.inf).amin(dim=1, keepdim=True)
    return (scores.double() * (scores > worst)).sum(dim=1)
