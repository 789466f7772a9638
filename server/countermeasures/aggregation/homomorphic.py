"""Models the rounding of a decrypted sum as noise of known size."""

import math
from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge


def rounding(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the rounding error in the mean: the holder of the key rounds the sum."""
    counted = last.records / float(defense["max_weight"])
    return 2.0 ** -int(defense["rounding_bits"]) / math.sqrt(12) / counted
