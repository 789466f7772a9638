"""As for clip-noise: the noise of Flower's LocalDpMod has a size that follows from its parameters."""

from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge
from fedinv.defense_terms.flower_local_dp import standard_deviation

from .clip_noise import update_clip

__all__ = ["noise", "update_clip"]


def noise(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the noise, which is added once to the whole update."""
    return standard_deviation(float(defense["sensitivity"]), float(defense["epsilon"]), float(defense["delta"]))
