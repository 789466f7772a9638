"""Updates as whole numbers modulo 2^64, in which masks cancel exactly."""

from collections.abc import Mapping

import torch
from torch import Tensor

FRACTION_BITS = 40
"""Fixed-point fraction of an element of the ring modulo 2^64: a resolution of 1e-12, a range of 8 million."""
SECAGG_FRACTION_BITS = 18
"""The same modulo 2^32, where SecAgg+ adds up: 22 bits over the clipping range of +-8."""


def to_ring(update: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Scale an update by its weight and turn it into integers modulo 2^64.

    Raises ValueError for values that the ring cannot hold: non-finite, or too large to add up.
    """
    limit = 2.0 ** (62 - FRACTION_BITS)
    ring = {}
    for name, tensor in update.items():
        scaled = tensor.double() * weight
        if not bool((scaled.abs() < limit).all()):
            raise ValueError(f"{name} holds values outside +-{limit:.0f} or none at all: nothing to mask")
        ring[name] = torch.round(scaled * 2.0**FRACTION_BITS).long()
    return ring


def from_ring(ring: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Turn ring elements back into float32 values, divided by the weight."""
    return {name: (_signed(tensor) / weight).float() for name, tensor in ring.items()}


def _signed(element: Tensor) -> Tensor:
    if element.dtype == torch.uint32:
        return element.view(torch.int32).double() / 2.0**SECAGG_FRACTION_BITS
    return element.double() / 2.0**FRACTION_BITS


def is_ring(update: Mapping[str, Tensor]) -> bool:
    """Whether an update has the form that masking gives it: int64 modulo 2^64, or uint32 modulo 2^32."""
    return all(tensor.dtype in (torch.int64, torch.uint32) for tensor in update.values())
