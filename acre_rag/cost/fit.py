"""A few measured seconds to the coefficients that explain them, none of them negative."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def fitted(terms: Sequence[Sequence[float]], seconds: Sequence[float]) -> tuple[float, ...]:
    """Fit seconds as a sum of terms, each times a coefficient of 0 or more.

    Errors count in proportion to the seconds, so that short runs are met as well as long ones.
    With so few terms the best subset of them is found by trying all.

    Args:
        terms: Of each run, the value of every term.
        seconds: Of each run, the seconds measured.

    Returns:
        A coefficient for each term.

    Raises:
        ValueError: There is no run, one took no time, or runs and seconds differ in number.
    """
    if not seconds or min(seconds) <= 0 or len(terms) != len(seconds):
        raise ValueError(
            f"{len(terms)} runs took {list(seconds)} seconds; expected a time above 0 for each "
            "of one run or more: measure again"
        )
    scaled = np.asarray(terms, dtype=float) / np.asarray(seconds, dtype=float)[:, None]
    count = scaled.shape[1]
    best, least = np.zeros(count), np.inf
    for size in range(1, count + 1):
        for columns in map(list, combinations(range(count), size)):
            found = np.linalg.lstsq(scaled[:, columns], np.ones(len(scaled)), rcond=None)[0]
            error = float(((scaled[:, columns] @ found - 1) ** 2).sum())
            # A larger subset must explain more; one that explains the same says nothing new.
            if (found >= 0).all() and error < least * (1 - 1e-9) - 1e-18:
                best, least = np.zeros(count), error
                best[columns] = found
    return tuple(best.tolist())
