"""As for clip-noise: broken-noise adds less noise than it claims, and the attacker knows how much."""

from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge

from .._numbers import number
from .clip_noise import update_clip

__all__ = ["noise", "update_clip"]


def noise(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the noise that is actually added to each coordinate of the update."""
    norm = number(defense, "sensitivity") or number(defense, "clip")
    return number(defense, "noise_share") * number(defense, "noise_multiplier") * norm
