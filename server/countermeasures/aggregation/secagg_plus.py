"""Models the quantization of a securely aggregated sum as noise of known size."""

import math
from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge

from ...inversion.exact.first_layer import with_bias
from ...inversion.exact.validity import stray


def rounding(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the rounding error in the mean, where each client rounds its coordinates stochastically.

    A value anywhere between two levels has a mean square error of 1/6 of their squared distance, zeros have none: the
    actual error is smaller, and is measured where one-hot columns allow it.
    """
    step: float = 2 * float(defense["clipping_range"]) * 2.0 ** -float(defense["quantization_bits"])
    counted = last.records / float(defense["max_weight"])
    most = step * math.sqrt(int(defense["cohort"]) / 6) / counted
    return min(most, _measured(last, knows) or most)


def _measured(last: Exchange, knows: Knowledge) -> float:
    """Standard deviation of the noise in the first layer's update, see `stray`; 0 where it cannot be measured."""
    weight, bias = ([*last.received][:2] + ["", ""])[:2]
    if knows.schema is None or not bias or last.received[weight].shape[1:] != (knows.schema.width,):
        return 0.0
    return stray(knows.schema, with_bias(last.received, weight, bias))
