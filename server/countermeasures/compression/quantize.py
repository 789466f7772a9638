"""Models quantization as rounding noise, whose size follows from the levels; of few bits it takes the signs alone.

Rounding to few levels drowns the gradient in noise, but it never turns a sign.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from fedinv.attack import Exchange, Knowledge
from fedinv.defense_terms.quantize import BUCKET

COARSE = 3
"""Bits up to which signs tell more than the rounded values: there are one or three levels beside 0."""


def rounding(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the rounding error, the root of its mean square over all coordinates.

    Stochastic rounding of a value anywhere between two levels has a mean square error of 1/6 of their squared distance;
    the largest entry of each bucket is its scale.
    """
    levels, square, count = 2 ** (int(defense["bits"]) - 1) - 1, 0.0, 0
    for tensor in last.received.values():
        flat = tensor.flatten().double()
        scale = pad(flat, (0, -flat.numel() % BUCKET)).reshape(-1, BUCKET).abs().amax(1)
        square += float(((scale / levels) ** 2 / 6).mean()) * flat.numel()
        count += flat.numel()
    return math.sqrt(square / max(count, 1))


def only_signs(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> bool:
    """True where so little is sent beside the signs that they are compared alone."""
    return int(defense["bits"]) <= COARSE


def masks(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> dict[str, Tensor]:
    """Coordinates whose sign is known, bool by parameter, where signs are compared alone; else none is left out."""
    return {name: tensor != 0 for name, tensor in last.received.items()} if only_signs(last, defense, knows) else {}
