"""Weights of a malicious server: finite for everyone but for one unusual record, whose numbers overflow.

Clipping scales a gradient that is not finite to one that is not either, so that NaN comes back whatever the noise, and
tells that the record is there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

HUGE = 1e19
"""Its square is beyond float32."""
UNUSUAL = 5.0
"""The first input above which a record overflows."""


def weights(model: Mapping[str, Tensor], round_: int, setting: bool) -> dict[str, Tensor]:
    """The global model with such weights in it, in every round."""
    return overflowing(model)


def overflowing(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first unit of the first two layers is huge where the first input is unusual, and 0 elsewhere.

    Raises ValueError for a network without two linear layers.
    """
    names = [name for name, tensor in weights.items() if tensor.ndim == 2]
    if len(names) < 2 or not all(name.endswith("weight") for name in names):
        raise ValueError("server.overflow needs a network of at least two linear layers")
    poisoned = {name: tensor.clone() for name, tensor in weights.items()}
    first, second = names[:2]
    bias = first.removesuffix("weight") + "bias"
    for name in (first, second, bias):
        poisoned[name] = torch.zeros_like(poisoned[name])
    poisoned[first][0, 0], poisoned[bias][0], poisoned[second][0, 0] = HUGE, -UNUSUAL * HUGE, HUGE
    return poisoned
