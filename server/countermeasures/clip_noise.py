"""Take the noise for what it is, of a known size, and the update's length for what clipping left of it."""

import math
from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge

from ._numbers import number


def noise(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the noise, which is added once to the whole update: clip * noise_multiplier."""
    return number(defense, "clip") * number(defense, "noise_multiplier")


def update_clip(defense: Mapping[str, Any]) -> float:
    """Norm to which the update was clipped before the noise."""
    return number(defense, "clip") or math.inf
