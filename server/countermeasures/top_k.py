"""Match the entries that were sent, and no others (Huang et al. 2021, Evaluating gradient inversion attacks)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedinv.attack import Exchange, Knowledge


def masks(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> dict[str, Tensor]:
    """Bool by parameter: what is not zero."""
    return {name: tensor != 0 for name, tensor in last.received.items()}
