"""The discrete Gaussian distribution: noise on integers."""

import numpy as np
from numpy.typing import NDArray


def discrete_gaussian(std: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw integers with probability proportional to exp(-x^2 / (2 std^2)), as float64 (count,).

    Canonne, Kamath, Steinke 2020 (The discrete Gaussian for differential privacy), algorithms 2 and 3: from discrete
    Laplace numbers, by rejection. Drawn in float64 instead of rationals, which suffices for a simulator.
    Exact below 2^53. Raises ValueError for a standard deviation that is not positive.
    """
    if not std > 0:
        raise ValueError(f"the standard deviation must be positive, not {std}")
    scale, found = np.floor(std) + 1, np.empty(0)
    while len(found) < count:
        more = int(1.6 * (count - len(found))) + 16
        size = np.floor(rng.exponential(scale, more))
        negative = rng.random(more) < 0.5
        keep = ~(negative & (size == 0))
        keep &= rng.random(more) < np.exp(-((size - std**2 / scale) ** 2) / (2 * std**2))
        found = np.concatenate([found, np.where(negative, -size, size)[keep]])
    return found[:count]
