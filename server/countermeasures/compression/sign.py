"""Compares signs only, as the update has no magnitudes."""

from collections.abc import Mapping
from typing import Any

from fedinv.attack import Exchange, Knowledge


def only_signs(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> bool:
    """True: only the signs of the update were sent."""
    return True
