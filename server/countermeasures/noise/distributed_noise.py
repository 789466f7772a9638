"""Models the clients' noise in the sum by its known size."""

from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge

from .._numbers import number


def noise(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the noise in the mean of a round's clients: that in their sum divided by their number."""
    clients = number(defense, "cohort") or 1.0
    return number(defense, "clip") * number(defense, "noise_multiplier") / clients
