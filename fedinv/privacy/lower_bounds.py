"""Lower bounds on epsilon, measured: whoever guesses too well who was in has seen more than the claim allows."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm

Scores = NDArray[np.float64]
GUESSED = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
"""Shares of the canaries that are guessed, surest first; the others are left open."""
LEVEL = 0.05
"""Chance that any of the bounds lies above the truth, both methods together."""
HIGHEST = 50.0
"""Epsilon beyond which nothing is told apart."""


@dataclass(frozen=True)
class Bound:
    """A measured epsilon that the truth is not below, but with a chance of LEVEL / 2."""

    epsilon: float
    guesses: int
    """That it rests on."""
    right: int


def chance_of(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Greatest chance of so many right guesses under (epsilon, delta)-DP with coins tossed for all canaries.

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
    """Steinke et al. 2023's bound, which assumes nothing, from one run's scores (m,) and coins (m,).

    The highest scores are guessed to be in and the lowest out, of several numbers of guesses that are fixed beforehand;
    each has its share of the level, so that their best is a bound at `level`.
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
    """A bound for noise that is Gaussian: Cohen's d of the scores less its error is the mu of a mu-GDP mechanism.

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
    return Bound(gaussian_epsilon(d - float(norm.ppf(1 - level)) * error, delta), n + m, right)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of a mu-GDP mechanism at delta (Balle and Wang 2018, theorem 8), at most HIGHEST."""

    def excess(epsilon: float) -> float:
        return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu)) - delta)

    if mu <= 0 or excess(0.0) <= 0:
        return 0.0
    return HIGHEST if excess(HIGHEST) > 0 else float(brentq(excess, 0.0, HIGHEST, xtol=1e-6))
