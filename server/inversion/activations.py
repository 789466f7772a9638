"""Activations between linear layers with their first and second derivatives, in closed form."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["relu", "leaky-relu", "gelu", "tanh", "sigmoid"]
LEAK = 0.01
"""Slope of the leaky ReLU for negative inputs, torch's default."""


def curve(kind: Activation, units: Tensor) -> tuple[Tensor, Tensor]:
    """The activation at `units` and its first derivative there, both of their shape."""
    if kind == "relu":
        return units.relu(), (units > 0).to(units.dtype)
    if kind == "leaky-relu":
        return functional.leaky_relu(units, LEAK), torch.where(units > 0, 1.0, LEAK)
    if kind == "tanh":
        value = units.tanh()
        return value, 1 - value.square()
    if kind == "sigmoid":
        value = units.sigmoid()
        return value, value * (1 - value)
    return functional.gelu(units), torch.special.ndtr(units) + units * _density(units)


def bend(kind: Activation, value: Tensor, units: Tensor) -> Tensor | None:
    """The second derivative at `units`, where the activation is `value`; None where it is zero everywhere."""
    if kind in ("relu", "leaky-relu"):
        return None
    if kind == "tanh":
        return -2 * value * (1 - value.square())
    if kind == "sigmoid":
        return value * (1 - value) * (1 - 2 * value)
    return _density(units) * (2 - units.square())


def _density(units: Tensor) -> Tensor:
    return (-0.5 * units.square()).exp() / math.sqrt(2 * math.pi)
