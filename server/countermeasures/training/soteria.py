"""Leaves the defended layer's weight out of the comparison; all other parameters depend on the records as ever.

Balunovic, Dimitrov, Staab, Vechev 2022 (Bayesian framework for gradient leakage), section 5.2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge


def masks(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> dict[str, Tensor]:
    """No coordinate of the defended layer's weight, bool by parameter; parameters not named keep all."""
    weights = [name for name, tensor in last.received.items() if tensor.ndim == 2 and name.endswith("weight")]
    name = weights[int(defense["layer"])]
    return {name: torch.zeros_like(last.received[name], dtype=torch.bool)}
