"""How sure a mean is: bootstrap intervals."""

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 2000


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Find the 95 % interval of a mean, by drawing as many values again, many times.

    Questions are drawn, not documents: what documents differ in shows up only in part.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("found no value; expected one or more")
    generator = np.random.default_rng(seed)
    array = np.asarray(values, dtype=np.float64)
    drawn = generator.integers(len(array), size=(_RESAMPLES, len(array)))
    low, high = np.percentile(array[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
