"""Reading numbers of a defense as the scenario writes it."""

from collections.abc import Mapping
from typing import Any


def number(defense: Mapping[str, Any], key: str) -> float:
    """A parameter of the defense; 0 where it is absent or no number."""
    value = defense.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
