"""Upper bound, by differential privacy, on an informed attacker's chance to identify the one record it does not know.

Balle, Cherubin, Hayes 2022; Hayes, Mahloujifar, Balle 2023 (Bounding training data reconstruction in DP-SGD).
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri

from fedinv.privacy.accountants import FAINTEST, ROUGH_POINTS, grid, losses
from fedinv.privacy.events import PrivacyEvent

Run = tuple[float, int]
"""Sampling rate and number of steps at that rate."""


def reconstruction_bound(
    kappa: float, noise_multiplier: float, sampling_rate: float = 1.0, steps: int = 1, more: Sequence[Run] = ()
) -> float:
    """Greatest probability that an informed attacker identifies a record that it would guess with probability `kappa`.

    gamma = min over eps of e^eps kappa + delta(eps), of the mechanism with the record against the one without it, at
    the same noise (Hayes et al. 2023, theorem 2). It holds for every choice of the record: each candidate is compared
    with its absence, a shift by one clipping norm, and by concavity the mean over candidates keeps the bound. `more`
    adds Gaussian steps of other sampling rates at the same noise. Closed form where every rate is 1:
    Phi(Phi^-1(kappa) + sqrt(steps) / noise_multiplier). Privacy loss distributions are rounded upward, so that the
    bound holds. Raises ValueError for a kappa outside (0, 1].
    """
    if not 0 < kappa <= 1:
        raise ValueError(f"kappa must be above 0 and at most 1, not {kappa}")
    runs = [(rate, count) for rate, count in ((sampling_rate, steps), *more) if count > 0 and rate > 0]
    if noise_multiplier <= 0:
        return 1.0 if runs else kappa
    if not runs or kappa == 1:
        return kappa
    apart = math.sqrt(sum(count for _, count in runs)) / noise_multiplier
    highest = float(ndtr(ndtri(kappa) + apart))  # as if nothing were sampled, which is never better
    events = [
        PrivacyEvent(noise_multiplier, min(1.0, rate), count, 0.0, "example", "add-or-remove-one", "")
        for rate, count in runs
    ]
    interval = grid(events, kappa, ROUGH_POINTS) if noise_multiplier >= FAINTEST else None
    if interval is None or all(rate >= 1 for rate, _ in runs):
        return highest
    whole, *others = (losses(event, interval) for event in events)
    for other in others:
        whole = whole.compose(other)

    def gamma(eps: float) -> float:
        # the larger of both directions, never below either
        return math.exp(eps) * kappa + float(whole.get_delta_for_epsilon(eps))

    tried = np.linspace(-5, math.log(1 / kappa), 60)
    values = [gamma(float(eps)) for eps in tried]
    at = int(np.argmin(values))
    between = (float(tried[max(0, at - 1)]), float(tried[min(len(tried) - 1, at + 1)]))
    found = minimize_scalar(gamma, bounds=between, method="bounded", options={"xatol": 1e-4})
    return float(min(highest, found.fun, values[at]))
