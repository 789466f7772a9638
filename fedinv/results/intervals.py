"""Confidence intervals of rates and means whose observations come in clusters: the records of one client, or a person.

What an attack gets of two records of one client is alike, so that many records of few clients say little about others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedinv.results.run import Interval

LEVEL = 0.95
"""Confidence level of every interval."""
ALIKE = 1.0
"""Clusters that an interval counts as seen beside the real ones, whose values would all be equal within a cluster: with
few clusters, or few that hold the rarer outcome, the spread between them is underestimated as often as not
(`python -m benchmarks coverage`)."""


def clopper_pearson(hits: float, trials: float, level: float = LEVEL) -> Interval:
    """Exact binomial interval of a share (Clopper and Pearson 1934), also of effective trials; (0, 1) without any."""
    if trials == 0:
        return 0.0, 1.0
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(hits, trials - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1 - tail)) if hits < trials else 1.0
    return low, high


def share_interval(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
    floor: float = 0.0,
) -> Interval:
    """Interval of a mean of values in [0, 1] (n,), 0 or 1 for hits, whose `clusters` (n,) are independent.

    Clopper and Pearson's at the effective number of trials (Korn and Graubard 1998): as many as would have the variance
    between the clusters, less for few clusters by the ratio of Student's quantiles, and at least one per cluster. Where
    all values are 0 or 1, each cluster is one trial, and one that fails counts as `floor`, which is what a guess gets.
    With a single cluster the values themselves are the clusters. (0, 1) for none.
    """
    if not len(values):
        return 0.0, 1.0
    one = _between(values, clusters, weights)
    spread = one.mean * (1 - one.mean)
    if spread < 1e-12:
        low, high = clopper_pearson(round(one.mean) * one.clusters, one.clusters)
        return (floor + (1 - floor) * low if one.mean > 0.5 else low), high
    if one.clusters <= 1:
        return 0.0, 1.0
    from scipy.special import stdtrit

    rarer = _between(values if one.mean < 0.5 else 1 - values, clusters, weights).totals
    holding = float(rarer.sum() ** 2 / np.square(rarer).sum())
    variance = (holding * one.variance + ALIKE * one.apart / one.clusters) / (holding + ALIKE)
    few, many = stdtrit(one.clusters - 1, 0.5 + LEVEL / 2), stdtrit(1e9, 0.5 + LEVEL / 2)
    differ = variance > 1e-12 * spread  # less is what rounding leaves of equal values
    trials = max(one.clusters, spread / variance * float(many / few) ** 2) if differ else len(values)
    return clopper_pearson(one.mean * trials, trials)


def mean_interval(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
    bounds: Interval = (0.0, 1.0),
) -> Interval:
    """Student's t interval of the weighted mean of numbers (n,) whose `clusters` (n,) are independent.

    The variance is that between the clusters (Cochran 1977, section 6.3); with a single cluster the values themselves
    are the clusters. It stays within `bounds`, the range that the numbers can have, which is all that is known of none
    or a single one.
    """
    if len(values) < 2:
        return bounds
    one = _between(values, clusters, weights)
    from scipy.special import stdtrit

    half = float(stdtrit(one.clusters - 1, 0.5 + LEVEL / 2)) * one.variance**0.5
    return max(bounds[0], one.mean - half), min(bounds[1], one.mean + half)


@dataclass(frozen=True)
class _Between:
    """A weighted mean, and how much the clusters say about it."""

    mean: float
    """Weighted mean of the values."""
    variance: float
    """Variance of that mean by what differs between the clusters (Cochran 1977, section 6.3)."""
    clusters: float
    """Effective number of clusters: that of equally heavy ones."""
    apart: float
    """Variance of single values around the mean."""
    totals: NDArray[np.float64]
    """Weighted sum of each cluster's values."""


def _between(
    values: NDArray[np.float64], clusters: NDArray[np.int64] | None, weights: NDArray[np.float64] | None
) -> _Between:
    weights = np.ones(len(values)) if weights is None else weights
    names, member = np.unique(np.arange(len(values)) if clusters is None else clusters, return_inverse=True)
    if len(names) == 1:  # nothing varies between clusters: what varies within it is all there is
        names, member = np.arange(len(values)), np.arange(len(values))
    heavy, totals = np.bincount(member, weights), np.bincount(member, weights * values).astype(float)
    mean = float(totals.sum() / heavy.sum())
    factor = len(names) / max(1, len(names) - 1)
    return _Between(
        mean=mean,
        variance=float(factor * np.square(totals - heavy * mean).sum() / heavy.sum() ** 2),
        clusters=float(heavy.sum() ** 2 / np.square(heavy).sum()),
        apart=float((weights * np.square(values - mean)).sum() / heavy.sum()),
        totals=totals,
    )
