"""What differential privacy promises against one who knows all but one record: a bound on telling which record it was.

Balle, Cherubin, Hayes 2022; Hayes, Mahloujifar, Balle 2023 (Bounding training data reconstruction in DP-SGD).
"""

import math
from collections.abc import Sequence

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.optimize import minimize_scalar

Run = tuple[float, int]
"""Sampling rate and number of steps at it."""


def reconstruction_bound(
    kappa: float, noise_multiplier: float, sampling_rate: float = 1.0, steps: int = 1, more: Sequence[Run] = ()
) -> float:
    """Greatest chance that any informed attacker names the record, who names it with chance `kappa` without looking.

    gamma = min over eps of e^eps kappa + delta(eps), of the mechanism with the record against the one without it, both
    of known noise (Hayes et al. 2023, theorem 2). It holds for every record in the batch's place: what is compared is
    each candidate with no candidate, a shift by one clipping norm, and by concavity the mean over candidates keeps the
    bound. Gaussian steps of another sampling rate, at the same noise, are composed by `more`. Closed form where every
    rate is 1: Phi(Phi^-1(kappa) + sqrt(steps) / noise_multiplier). Privacy loss distributions are rounded upward, so
    that the bound holds. Raises ValueError for a kappa outside (0, 1].
    """
    if not 0 < kappa <= 1:
        raise ValueError(f"kappa must be above 0 and at most 1, not {kappa}")
    runs = [(rate, count) for rate, count in ((sampling_rate, steps), *more) if count > 0 and rate > 0]
    if noise_multiplier <= 0:
        return 1.0 if runs else kappa
    if not runs or kappa == 1:
        return kappa
    distributions = [
        pld.from_gaussian_mechanism(
            noise_multiplier, sampling_prob=min(1.0, rate), value_discretization_interval=1e-3, use_connect_dots=True
        ).self_compose(count)
        for rate, count in runs
    ]
    whole = distributions[0]
    for other in distributions[1:]:
        whole = whole.compose(other)

    def gamma(eps: float) -> float:
        # the larger of both directions: never below the one that is needed
        return math.exp(eps) * kappa + float(whole.get_delta_for_epsilon(eps))

    grid = np.linspace(-5, math.log(1 / kappa), 60)
    values = [gamma(float(eps)) for eps in grid]
    at = int(np.argmin(values))
    between = (float(grid[max(0, at - 1)]), float(grid[min(len(grid) - 1, at + 1)]))
    found = minimize_scalar(gamma, bounds=between, method="bounded", options={"xatol": 1e-4})
    return float(min(1.0, found.fun, values[at]))
