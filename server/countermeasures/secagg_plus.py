"""Take the quantization of a securely aggregated sum for noise of a known size."""

import math
from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge

from ..inversion.exact.first_layer import with_bias
from ..inversion.exact.validity import stray


def rounding(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the rounding in the mean, where each client rounded its entries at random.

    An entry that lies anywhere between two levels is moved by 1/6 of their distance squared, in the mean, and one that
    is zero not at all: how much was moved is less, and is measured where one-hot columns allow it.
    """
    step = 2 * float(defense["clipping_range"]) * 2.0 ** -int(defense["quantization_bits"])
    counted = last.records / float(defense["max_weight"])
    most = step * math.sqrt(int(defense["cohort"]) / 6) / counted
    return min(most, _measured(last, knows) or most)


def _measured(last: Exchange, knows: Knowledge) -> float:
    """What the first layer's update holds that no record can have put there; 0 where that cannot be told."""
    weight, bias = ([*last.received][:2] + ["", ""])[:2]
    if knows.schema is None or not bias or last.received[weight].shape[1:] != (knows.schema.width,):
        return 0.0
    return stray(knows.schema, with_bias(last.received, weight, bias))
