"""Take the quantization of a securely aggregated sum for noise of a known size."""

import math
from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge


def rounding(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the rounding in the mean, where each client rounded its entries at random.

    An entry that lies anywhere between two levels is moved by 1/6 of their distance squared, in the mean.
    """
    step = 2 * float(defense["clipping_range"]) * 2.0 ** -int(defense["quantization_bits"])
    counted = last.records / float(defense["max_weight"])
    return step * math.sqrt(int(defense["cohort"]) / 6) / counted
