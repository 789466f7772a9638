"""Answer clip-noise with a bug as clip-noise is answered: the attacker is told of the noise that is really added."""

from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge

from ._numbers import number
from .clip_noise import update_clip

__all__ = ["noise", "update_clip"]


def noise(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the noise: the added share of what is charged for."""
    norm = number(defense, "sensitivity") or number(defense, "clip")
    return number(defense, "noise_share") * number(defense, "noise_multiplier") * norm
