"""The exact privacy curve of the Gaussian mechanism, in closed form."""

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr, ndtri

STEEPEST = 1e4
"""Distance in standard deviations beyond which epsilon, then above 10^7, is given as infinite."""


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon at `delta` of Gaussian noise whose means differ by `mu` standard deviations, rounded up by at most 1e-9.

    Balle and Wang 2018 (Improving the Gaussian mechanism), theorem 8. Composed releases add the squares of their `mu`.
    """
    if mu > STEEPEST:
        return math.inf

    def excess(epsilon: float) -> float:
        # the second term as an exponent: its factors overflow and vanish
        return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)) - delta)

    if mu <= 0 or excess(0.0) <= 0:
        return 0.0
    highest = mu**2 / 2 - mu * float(ndtri(delta))  # where the first term alone is delta
    return float(brentq(excess, 0.0, highest + 1e-9, xtol=1e-10)) * (1 + 1e-12) + 1e-10
