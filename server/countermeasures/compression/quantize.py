"""Models quantization as rounding noise, whose size follows from the levels."""

import math
from collections.abc import Mapping
from typing import Any

from torch.nn.functional import pad

from fedinv.attack import Exchange, Knowledge
from fedinv.defense_terms.quantize import BUCKET


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
