"""Leaves out random units of the hidden layers.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014 (Dropout), section 4.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fedinv.defense import Defense, Masks, Trial
from fedinv.federation.streams import torch_stream
from fedinv.task.networks.tabular import Columns, OneLogit

UNMASKED = (nn.Flatten, nn.Unflatten, nn.AvgPool2d, Columns, OneLogit)
"""Layers without parameters whose outputs are no hidden units of their own, so that no mask stands behind them."""


class Dropout(Defense):
    """Each hidden unit of each record is 0 with probability `rate` in training; the others are divided by 1 - rate.

    Claims no differential privacy: heuristic. Costs no bytes and hardly any time.
    """

    kind: Literal["dropout"] = "dropout"
    neutral: ClassVar[Mapping[str, Any] | None] = {"rate": 0.0}
    trials = (Trial(70),)
    rate: float = Field(default=0.3, ge=0, lt=1)
    """Probability that a hidden unit is set to 0, drawn anew for each record and step."""

    def wrap_network(self, network: nn.Sequential, rng: np.random.Generator) -> nn.Sequential:
        """Put a mask behind every activation; parameters keep their names."""
        generator = torch_stream(rng)
        wrapped = nn.Sequential()
        for name, layer in network.named_children():
            unit = not list(layer.parameters()) and not isinstance(layer, UNMASKED)
            wrapped.add_module(name, nn.Sequential(layer, _Mask(self.rate, generator)) if unit else layer)
        return wrapped

    def masks(self, rng: np.random.Generator) -> Masks:
        """Dropout masks, for clients that are trained in one stacked tensor."""
        return partial(_mask, self.rate, torch_stream(rng))


class _Mask(nn.Module):
    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self._rate, self._generator = rate, generator

    def forward(self, units: Tensor) -> Tensor:
        if not self.training:
            return units
        return units * _mask(self._rate, self._generator, *units.shape)


def _mask(rate: float, generator: torch.Generator, *shape: int) -> Tensor:
    return (torch.rand(shape, generator=generator) >= rate) / (1 - rate)
