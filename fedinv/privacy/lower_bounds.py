"""Measured lower bounds on epsilon: membership of canaries is guessed better than the true epsilon would allow."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm

from fedinv.privacy.gaussian import gaussian_epsilon

Scores = NDArray[np.float64]
"""One score per canary (m,), higher where it is likelier to be present."""
GUESSED = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
"""Shares of the canaries that are guessed, those with the most extreme scores first; no guess is made on the others."""
LEVEL = 0.05
"""Probability that a bound exceeds the true epsilon, over both methods together."""
HIGHEST = 50.0
"""Largest epsilon that is reported as a bound."""


@dataclass(frozen=True)
class Bound:
    """A lower bound on epsilon that holds with probability 1 - LEVEL / 2."""

    epsilon: float
    """Measured lower bound; 0 where nothing was shown."""
    guesses: int
    """Number of guesses behind the bound."""
    right: int
    """Number of right guesses among them."""


def chance_of(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Greatest probability of `right` or more right guesses under (epsilon, delta)-DP, a fair coin for each canary.

    Steinke, Nasr, Jagielski 2023 (Privacy auditing with one training run), theorem 5.2: P[Bin >= v] + 2 m delta max
    over i of P[v > Bin >= v - i] / i, Bin of `guesses` trials at e^eps / (1 + e^eps).
    """
    share = 1 / (1 + math.exp(-epsilon))
    most = float(binom.sf(right - 1, guesses, share))
    if delta > 0 and right > 0:
        back = np.arange(1, right + 1)
        passed = np.cumsum(binom.pmf(right - back, guesses, share))
        most += 2 * canaries * delta * float((passed / back).max())
    return min(1.0, most)


def one_run(scores: Scores, present: NDArray[np.bool_], delta: float, level: float = LEVEL / 2) -> Bound:
    """Steinke et al. 2023's bound from one run's scores (m,) and coins (m,), without assumptions on the mechanism.

    The highest scores are guessed present and the lowest absent, for several numbers of guesses fixed beforehand; each
    takes an equal part of `level`, so that the largest of their bounds holds at `level`.
    """
    canaries, best = len(scores), Bound(0.0, 0, 0)
    order = np.argsort(-scores, kind="stable")
    for share in GUESSED:
        half = max(1, int(share * canaries / 2))
        guesses = 2 * half
        right = int(present[order[:half]].sum() + (~present[order[-half:]]).sum())
        allowed = level / len(GUESSED)

        def above(epsilon: float, right: int = right, guesses: int = guesses, allowed: float = allowed) -> float:
            return chance_of(right, guesses, canaries, epsilon, delta) - allowed

        if guesses > canaries or above(0.0) >= 0:
            continue
        found = HIGHEST if above(HIGHEST) < 0 else float(brentq(above, 0.0, HIGHEST, xtol=1e-4))
        if found > best.epsilon:
            best = Bound(found, guesses, right)
    return best


def gaussian(scores: Scores, present: NDArray[np.bool_], delta: float, level: float = LEVEL / 2) -> Bound:
    """Bound for Gaussian noise: Cohen's d of the scores, less its standard error's margin, as mu of a mu-GDP mechanism.

    Dong, Roth, Su 2022 (Gaussian differential privacy), corollary 2.13, from mu to epsilon; the standard error of d is
    Hedges and Olkin 1985's.
    """
    inside, outside = scores[present], scores[~present]
    n, m = len(inside), len(outside)
    if n < 3 or m < 3:
        return Bound(0.0, 0, 0)
    pooled = math.sqrt(((n - 1) * inside.var(ddof=1) + (m - 1) * outside.var(ddof=1)) / (n + m - 2))
    apart = float(inside.mean() - outside.mean())
    if pooled == 0:
        return Bound(HIGHEST if apart > 0 else 0.0, n + m, n + m)
    d = apart / pooled
    error = math.sqrt((n + m) / (n * m) + d**2 / (2 * (n + m)))
    middle = (inside.mean() + outside.mean()) / 2
    right = int((inside > middle).sum() + (outside <= middle).sum())
    return Bound(min(HIGHEST, gaussian_epsilon(d - float(norm.ppf(1 - level)) * error, delta)), n + m, right)
