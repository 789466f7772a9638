"""Models clip-noise's noise by its known size, and the update as possibly clipped."""

import math
from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge

from .._numbers import number


def noise(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the noise, which is added once to the whole update: clip * noise_multiplier."""
    return number(defense, "clip") * number(defense, "noise_multiplier")


def update_clip(defense: Mapping[str, Any]) -> float:
    """Norm to which the update was clipped before noise was added; infinite where none is given."""
    return number(defense, "clip") or math.inf
