"""The largest leakage over several attacks, with an interval that is corrected for their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from fedinv.results.intervals import clopper_pearson
from fedinv.results.run import AttackResult, Interval

RESAMPLES = 2000
"""Number of bootstrap resamples."""
SEED = 14
"""Seed of the resamples, so that the same results give the same interval."""

Cluster = tuple[int, int]
"""Seed's place among the seeds, and client."""


@dataclass(frozen=True)
class Counts:
    """Counts of one attack in one variant: right fields, right fields of the guess, and fields, by cluster."""

    by_cluster: Mapping[Cluster, tuple[float, float, float]]

    @property
    def leakage(self) -> float:
        """Share of what the guess gets wrong that the attack gets right; 0 where the guess gets nothing wrong."""
        right, guessed, fields = np.array(list(self.by_cluster.values())).sum(0)
        return float((right - guessed) / (fields - guessed)) if fields > guessed else 0.0


def counts(found: Sequence[AttackResult]) -> Counts | None:
    """Counts of an attack's results, one a seed; a sum of clients is one cluster. None without records."""
    told: dict[Cluster, tuple[float, float, float]] = {}
    for seed, one in enumerate(found):
        told |= {(seed, c.client): (c.right, c.guessed, float(c.fields)) for c in one.clients if c.records}
        if not one.clients and one.field_accuracy.numbers is not None:
            (value, _, prior), fields = one.field_accuracy.numbers, float(one.field_accuracy.count)
            told[seed, -1] = (value * fields, prior * fields, fields)
    return Counts(told) if told else None


def of_maximum(attacks: Sequence[Counts], level: float = 0.95) -> Interval | None:
    """Interval of the largest leakage over the attacks; None where there are fewer than two clusters to resample.

    A bootstrap over clusters, client by seed, in which all attacks are resampled together: the bounds are the observed
    maximum less and plus the quantile of the largest deviation over attacks, which holds for all of them at once (White
    2000, section 2). As clusters are few, deviations are stretched as Student's t is against the normal. Where all
    clusters fare the same, which no resample can tell from certainty, each is one trial (Clopper and Pearson 1934).
    """
    bounds = []
    keyed = sorted(attacks, key=lambda one: sorted(one.by_cluster))
    for clusters, group in groupby(keyed, key=lambda one: sorted(one.by_cluster)):
        if len(clusters) < 2:
            return None
        table = np.array([[one.by_cluster[cluster] for cluster in clusters] for one in group])
        bounds.append(_band(table, (1 - level) / 2 / len({tuple(sorted(a.by_cluster)) for a in attacks})))
    largest = max(one.leakage for one in attacks)
    low = max(value - down for value, down, _ in bounds)
    high = max(value + up for value, _, up in bounds)
    seen = clopper_pearson(trials := min(len(one.by_cluster) for one in attacks), trials, level)[0]
    if low == largest > 0:
        low = largest * seen
    if high == largest and any(right[2] > right[1] for one in attacks for right in one.by_cluster.values()):
        high = 1 - (1 - largest) * seen
    return min(low, largest), max(min(1.0, high), largest)


def _band(table: NDArray[np.float64], tail: float) -> tuple[float, float, float]:
    """Largest leakage of counts (attacks, clusters, 3), and how far it may lie above and below the truth."""
    drawn = np.random.default_rng(SEED).integers(table.shape[1], size=(RESAMPLES, table.shape[1]))
    value, again = _leakage(table.sum(1)), _leakage(table[:, drawn].sum(2))
    free = table.shape[1] - 1
    wide = np.sqrt(table.shape[1] / free) * stdtrit(free, 1 - tail) / ndtri(1 - tail)
    down = np.quantile((again - value[:, None]).max(0), 1 - tail)
    up = np.quantile((value[:, None] - again).max(0), 1 - tail)
    return float(value.max()), float(wide * max(0.0, down)), float(wide * max(0.0, up))


def _leakage(summed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leakage by right, guessed and all fields (..., 3)."""
    right, guessed, fields = summed[..., 0], summed[..., 1], summed[..., 2]
    wrong = fields - guessed
    return np.asarray(np.divide(right - guessed, wrong, out=np.zeros_like(wrong), where=wrong > 0))


def widened(value: float, interval: Interval, attacks: int) -> Interval:
    """A 95 % interval widened so that as many of them hold together with 95 % (Bonferroni)."""
    times = float(ndtri(1 - 0.025 / attacks) / ndtri(0.975))
    return value - times * (value - interval[0]), min(1.0, value + times * (interval[1] - value))
