"""Compares only the coordinates that were sent (Huang et al. 2021, Evaluating gradient inversion attacks)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedinv.attack import Exchange, Knowledge


def masks(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> dict[str, Tensor]:
    """Coordinates of the update that are not zero, bool by parameter."""
    return {name: tensor != 0 for name, tensor in last.received.items()}
