"""Take the rounding of an opened sum for noise of a known size."""

import math
from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge


def rounding(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the rounding in the mean, where the holder of the key rounded the sum."""
    counted = last.records / float(defense["max_weight"])
    return 2.0 ** -int(defense["rounding_bits"]) / math.sqrt(12) / counted
