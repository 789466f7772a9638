"""Take rounding for what it is: noise of a size that can be read off the levels."""

import math
from collections.abc import Mapping
from typing import Any

from torch.nn.functional import pad

from fedinv.attack import Exchange, Knowledge
from fedinv.defense_terms.quantize import BUCKET


def rounding(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the rounding, the root of its mean square over all entries.

    An entry that lies anywhere between two levels is moved by 1/6 of their distance squared, in the mean; the largest
    entry of each bucket is its scale.
    """
    levels, square, count = 2 ** (int(defense["bits"]) - 1) - 1, 0.0, 0
    for tensor in last.received.values():
        flat = tensor.flatten().double()
        scale = pad(flat, (0, -flat.numel() % BUCKET)).reshape(-1, BUCKET).abs().amax(1)
        square += float(((scale / levels) ** 2 / 6).mean()) * flat.numel()
        count += flat.numel()
    return math.sqrt(square / max(count, 1))
