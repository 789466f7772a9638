"""Confidence intervals of rates and means."""

import numpy as np
from numpy.typing import NDArray

from fedinv.results.run import Interval


def clopper_pearson(hits: int, trials: int, level: float = 0.95) -> Interval:
    """Exact binomial interval of a share (Clopper and Pearson 1934); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def bootstrap_mean(
    values: NDArray[np.float64], weights: NDArray[np.float64], rng: np.random.Generator, resamples: int = 2000
) -> Interval:
    """Percentile bootstrap interval (95 %, Efron 1979) of the weighted mean of `values` (n,); (0, 1) for none."""
    if len(values) == 0:
        return 0.0, 1.0
    drawn = rng.integers(len(values), size=(resamples, len(values)))
    means = (values * weights)[drawn].sum(1) / weights[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
