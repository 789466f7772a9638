"""Multilayer perceptrons and logistic regression."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from fedinv.task.networks.architecture import Architecture, Shape
from fedinv.task.networks.bottleneck import Bottleneck

Activation = Literal["relu", "leaky-relu", "gelu", "tanh", "sigmoid"]
Whole = Annotated[int, Field(gt=0)]
ACTIVATIONS: Mapping[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Mlp(Architecture):
    """A multilayer perceptron: linear layers with an activation between them. Reads an image as a row of pixels."""

    perceptron: ClassVar[bool] = True

    kind: Literal["mlp"] = "mlp"
    """Selects this network, and with it the keys that the table may have."""
    hidden: tuple[Whole, ...] = Field(default=(512, 512), min_length=1, max_length=100)
    """Units of each hidden layer, from the input on; wide first layers reveal more records to analytic attacks."""
    activation: Activation = "relu"
    """Activation after each hidden layer."""
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Width of the variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer, as `hidden` says."""
        return self.hidden

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order."""
        widths = [width_of(shape), *self.hidden]
        hidden: list[nn.Module] = []
        for before, after in pairwise(widths):
            hidden += [nn.Linear(before, after), ACTIVATIONS[self.activation]()]
        return [*hidden, *bottleneck_layers(widths[-1], self.bottleneck), nn.Linear(widths[-1], outputs)]


class Logistic(Architecture):
    """Logistic regression: one linear layer."""

    perceptron: ClassVar[bool] = True

    kind: Literal["logistic"] = "logistic"
    """Selects this network, and with it the keys that the table may have."""
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Width of the variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order."""
        return [*bottleneck_layers(width_of(shape), self.bottleneck), nn.Linear(width_of(shape), outputs)]


def bottleneck_layers(width: int, bottleneck: int) -> list[nn.Module]:
    """A list of one variational bottleneck between layers of `width` units; empty where `bottleneck` is 0."""
    return [Bottleneck(width, bottleneck)] if bottleneck else []


def width_of(shape: Shape) -> int:
    """Number of inputs that a record of this shape has."""
    return int(torch.Size(shape).numel())
