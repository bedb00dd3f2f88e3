"""How many tokens a question needs, told from its scores: one detail, or half of the document.

Our rule for the "dynamic" in ACRE's name. Scores are trained to be how likely an interval holds the
answer, so that refilling all from one score on finds the most evidence for as many tokens a
question on average: an interval left out is worth less than any taken, whatever it was asked for.
"""

import torch
from torch import Tensor

LEAST_AUTO = 64
DEFAULT_SCORE = 0.01
"""Score from which intervals are refilled where none was fitted."""


def tokens_from(scores: Tensor, lengths: Tensor, least: float) -> int:
    """Count the tokens of all intervals that score enough.

    Args:
        scores: At least 0, adding up to 1, float32, (intervals,).
        lengths: Raw tokens of each interval, (intervals,), int64.
        least: Score from which an interval is refilled.

    Returns:
        Raw tokens, `LEAST_AUTO` or more.
    """
    return max(int(lengths[scores >= least].sum()), LEAST_AUTO)


def least_wanted(scores: Tensor, wanted: Tensor) -> Tensor:
    """Find the score of the worst wanted interval: from there on, all of them are refilled.

    Args:
        scores: (questions, intervals), each row adding up to 1.
        wanted: Which intervals are wanted, same shape, one or more in each row.

    Returns:
        (questions,).
    """
    return scores.masked_fill(~wanted, torch.inf).amin(dim=1)
