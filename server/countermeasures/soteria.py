"""Leave the defended layer's weight out: all else still tells.

Balunovic, Dimitrov, Staab, Vechev 2022 (Bayesian framework for gradient leakage), section 5.2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge


def masks(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> dict[str, Tensor]:
    """Bool by parameter: nothing of the defended layer's weight."""
    weights = [name for name, tensor in last.received.items() if tensor.ndim == 2 and name.endswith("weight")]
    name = weights[int(defense["layer"])]
    return {name: torch.zeros_like(last.received[name], dtype=torch.bool)}
