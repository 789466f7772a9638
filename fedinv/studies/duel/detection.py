"""From scores to decisions: thresholds at a false-alarm rate, what they flag, and which detectors are best together.

Scores are arrays (messages, detectors), larger is more suspicious; -inf where a detector had nothing to look at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from fedinv.results.duel import Share
from fedinv.results.intervals import clopper_pearson

Scores = NDArray[np.float64]
"""Scores of messages by several detectors, (messages, detectors)."""
LARGEST = 5
"""Detectors in a combination, at most: each more leaves the others a smaller share of the false alarms."""
TRAININGS = 5
"""Honest trainings from which the spread between trainings is estimated, at least; thresholds set on fewer hold for
these trainings alone."""
DRAWS = 20_000
"""Draws of as many trainings, from which the bound for one more follows."""
FARTHEST = 1e6
"""Standard deviations above the mean up to which a bound is looked for."""


@dataclass(frozen=True)
class Honest:
    """What detectors score of an honest server's messages, and which training each message is of."""

    scores: Scores
    """Scores, (messages, detectors)."""
    trainings: NDArray[np.int64]
    """Training of each message, by any number, (messages,): scores vary less within a training than between them."""
    highest: tuple[float, ...] = ()
    """Highest score that each detector can give; empty where there is none."""


@dataclass(frozen=True)
class Panel:
    """Detectors of which any one flags a message."""

    members: tuple[int, ...]
    """Positions of the detectors, in order."""
    thresholds: tuple[float, ...]
    """Score of each member above which a message is flagged."""

    def flags(self, scores: Scores) -> NDArray[np.bool_]:
        """Which messages are flagged, (messages,)."""
        return np.asarray((scores[:, list(self.members)] > np.array(self.thresholds)).any(1))


def panel(members: Sequence[int], honest: Honest, rate: float) -> Panel | None:
    """The detectors' thresholds at which together they flag at most `rate` of the honest messages.

    All members are given the same number of honest messages above their threshold, the largest that keeps the rate, and
    a threshold no lower than `beyond` with an equal share of the rate. None with fewer than 1 / rate messages, of which
    no such rate can be stated, and where a member scored none of them.
    """
    messages = honest.scores[:, list(members)]
    allowed = int(rate * len(messages) + 1e-9)
    if not allowed:
        return None
    ordered = -np.sort(-messages, axis=0)  # largest first
    if not np.isfinite(ordered[0]).all():
        return None
    least = [
        beyond(column, honest.trainings, rate / len(members), honest.highest[at] if honest.highest else np.inf)
        for at, column in zip(members, messages.T, strict=True)
    ]
    best = None
    for above in range(allowed + 1):
        thresholds = ordered[min(above, len(messages) - 1)]
        if not np.isfinite(thresholds).all():
            break
        raised = tuple(max(float(one), bound) for one, bound in zip(thresholds, least, strict=True))
        if Panel(tuple(members), tuple(map(float, thresholds))).flags(honest.scores).sum() > allowed:
            break
        best = Panel(tuple(members), raised)
    return best


def beyond(scores: NDArray[np.float64], trainings: NDArray[np.int64], rate: float, highest: float = np.inf) -> float:
    """The score that any message of one more training exceeds with a probability of `rate`; -inf of too few trainings.

    The prediction bound on the largest score of a training, if these are Gumbel's, as largest values of many are where
    tails are exponential (Fisher and Tippett 1928). Trainings are what is counted: messages of one are no independent
    draws. Where the bound is not below the highest score there can be, it is that of -log(highest - score).
    """
    each = [scores[trainings == one].max() for one in np.unique(trainings)]
    largest = np.array([one for one in each if np.isfinite(one)])
    if len(largest) < TRAININGS:
        return -np.inf
    bound = _predicted(largest, rate)
    if bound < highest or (largest >= highest).any():
        return bound
    return float(highest - np.exp(-_predicted(-np.log(highest - largest), rate)))


def _predicted(largest: NDArray[np.float64], rate: float) -> float:
    """Value that one more of Gumbel's numbers like these exceeds with a probability of `rate`."""
    return float(largest.mean() + _spreads(len(largest), rate) * largest.std(ddof=1))


@cache
def _spreads(count: int, rate: float) -> float:
    """Standard deviations above the mean of `count` of Gumbel's numbers that one more exceeds at `rate`, by draws."""
    drawn = np.random.default_rng(0).gumbel(size=(DRAWS, count))
    mean, spread = drawn.mean(1), drawn.std(1, ddof=1)

    def above(spreads: float) -> float:
        return float(-np.expm1(-np.exp(-(mean + spreads * spread))).mean() - rate)

    return float(brentq(above, 0.0, FARTHEST))


def best_panel(honest: Honest, crafted: Mapping[str, Scores], rate: float) -> Panel | None:
    """The combination that flags most of the deviation it flags least; among equals most of all, with fewest members.

    A deviation that no detector flags at all is no reason to prefer any. None where no rate can be stated.
    """
    panels = [
        one
        for size in range(1, min(LARGEST, honest.scores.shape[1]) + 1)
        for members in combinations(range(honest.scores.shape[1]), size)
        if (one := panel(members, honest, rate)) is not None
    ]
    if not panels:
        return None
    some = [scores for scores in crafted.values() if len(scores)]
    flagged = np.array([[one.flags(scores).mean() for scores in some] for one in panels]).reshape(len(panels), -1)
    visible = flagged[:, (flagged > rate).any(0)]
    least = visible.min(1) if visible.shape[1] else np.zeros(len(panels))
    ranked = zip(least.round(9), flagged.sum(1).round(9), (-len(one.members) for one in panels), strict=True)
    return max(zip(ranked, panels, strict=True), key=lambda pair: pair[0])[1]


def share(flags: NDArray[np.bool_]) -> Share:
    """The share of messages that are flagged."""
    hits, count = int(flags.sum()), len(flags)
    return Share(value=hits / count if count else 0.0, count=count, ci95=clopper_pearson(hits, count))


def auc(crafted: NDArray[np.float64], honest: NDArray[np.float64]) -> float | None:
    """Probability that a crafted message scores above an honest one, ties by half; None without either."""
    if not len(crafted) or not len(honest):
        return None
    ordered = np.sort(honest)
    below, up_to = np.searchsorted(ordered, crafted, "left"), np.searchsorted(ordered, crafted, "right")
    return float((below + up_to).mean() / 2 / len(honest))
