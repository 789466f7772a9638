"""Rounds each entry at random to one of a few levels (QSGD).

Alistarh, Grubic, Li, Tomioka, Vojnovic 2017 (QSGD), section 3.1, with the largest absolute value of a bucket as its
scale instead of the norm, as in their experiments (section 5).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedinv.defense import Defense, Sending, Update
from fedinv.defense_terms.quantize import BUCKET
from fedinv.federation.streams import torch_stream


class Quantize(Defense):
    """update -> scale * sign * level / levels, bucket by bucket, rounded up or down at random so that it is unbiased.

    Claims no differential privacy: heuristic, as compression. Costs `bits` for each entry and 4 bytes for each bucket
    of 512, down from 32 bits for each; hardly any time.
    """

    kind: Literal["quantize"] = "quantize"
    neutral: ClassVar[Mapping[str, Any] | None] = {"bits": 16}
    compresses = True
    bits: int = Field(default=4, ge=2, le=16)
    """Bits per entry, one of them its sign, which give 2^(bits - 1) - 1 levels besides 0."""

    def protect(self, update: Update, sending: Sending) -> Update:
        """Round every entry to a level of its bucket's scale; entries that are not finite count as 0."""
        generator, levels = torch_stream(sending.rng), 2 ** (self.bits - 1) - 1
        return {name: _rounded(tensor, levels, generator) for name, tensor in update.items()}


def _rounded(tensor: Tensor, levels: int, generator: torch.Generator) -> Tensor:
    flat = torch.nan_to_num(tensor, 0.0, 0.0, 0.0).flatten()
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % BUCKET)).reshape(-1, BUCKET)
    scale = padded.abs().amax(1, keepdim=True)
    at = padded.abs() / scale.clamp_min(1e-38) * levels
    low = at.floor()
    level = low + (torch.rand(at.shape, generator=generator) < at - low)
    rounded: Tensor = (padded.sign() * level * (scale / levels)).flatten()[: flat.numel()]
    return rounded.reshape(tensor.shape)
