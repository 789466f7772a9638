"""The networks that a federation trains, built from their declaration alone."""

import copy
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fedinv.bottleneck import Bottleneck

Shape = tuple[int, ...]
"""Of one record: (width,) for a table, (channels, height, width) for an image."""
Activation = Literal["relu", "leaky-relu", "gelu", "tanh", "sigmoid"]
Whole = Annotated[int, Field(gt=0)]

ACTIVATIONS: Mapping[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Mlp(BaseModel):
    """A multilayer perceptron: linear layers with an activation between them. Reads an image as a row of pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    images: ClassVar[bool] = False

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Whole, ...] = Field(default=(512, 512), min_length=1)
    activation: Activation = "relu"
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Numbers that pass a variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order."""
        widths = [_width(shape), *self.hidden]
        hidden: list[nn.Module] = []
        for before, after in pairwise(widths):
            hidden += [nn.Linear(before, after), ACTIVATIONS[self.activation]()]
        return [*hidden, *_narrow(widths[-1], self.bottleneck), nn.Linear(widths[-1], outputs)]


class Logistic(BaseModel):
    """Logistic regression: one linear layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    images: ClassVar[bool] = False

    kind: Literal["logistic"] = "logistic"
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Numbers that pass a variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order."""
        return [*_narrow(_width(shape), self.bottleneck), nn.Linear(_width(shape), outputs)]


class Lenet(BaseModel):
    """The LeNet of Zhu et al. 2019 (Deep leakage from gradients, section 4.1), for images of at least 8 x 8.

    Three convolutions 5 x 5 of 12 channels with strides 2, 2 and 1, a sigmoid after each, one linear layer. All
    parameters begin uniform in [-0.5, 0.5], as there: smaller ones let a sigmoid network's gradient fade.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    images: ClassVar[bool] = True

    kind: Literal["lenet"] = "lenet"
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Numbers that pass a variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order. Raises ValueError for what is no image of at least 8 x 8."""
        channels, height, width = _image(self.kind, shape)
        layers: list[nn.Module] = [nn.Unflatten(1, (channels, height, width))]
        for before, stride in ((channels, 2), (12, 2), (12, 1)):
            layers += [nn.Conv2d(before, 12, 5, stride, padding=2), nn.Sigmoid()]
        rest = 12 * ((height + 3) // 4) * ((width + 3) // 4)
        layers += [nn.Flatten(), *_narrow(rest, self.bottleneck), nn.Linear(rest, outputs)]
        for layer in layers:
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -0.5, 0.5)
        return layers


class Convnet(BaseModel):
    """A small convolutional network: blocks of a convolution 3 x 3, a normalization and ReLU, then a linear layer.

    2 x 2 means are taken after each block while both sides are at least 4. The default has 246,000 parameters for ten
    classes of 32 x 32 color images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    images: ClassVar[bool] = True

    kind: Literal["convnet"] = "convnet"
    channels: tuple[Whole, ...] = Field(default=(32, 64, 128, 128), min_length=1)
    """Of each block."""
    norm: Literal["none", "batch"] = "none"
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Numbers that pass a variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order. Raises ValueError for what is no image of at least 8 x 8."""
        before, height, width = _image(self.kind, shape)
        layers: list[nn.Module] = [nn.Unflatten(1, (before, height, width))]
        for after in self.channels:
            layers.append(nn.Conv2d(before, after, 3, padding=1))
            if self.norm == "batch":
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.ReLU())
            if min(height, width) >= 4:
                layers.append(nn.AvgPool2d(2))
                height, width = height // 2, width // 2
            before = after
        rest = before * height * width
        return [*layers, nn.Flatten(), *_narrow(rest, self.bottleneck), nn.Linear(rest, outputs)]


AnyModel = Mlp | Logistic | Lenet | Convnet
Model = Annotated[AnyModel, Field(discriminator="kind")]


def build(model: AnyModel, shape: Shape, outputs: int, seed: int) -> nn.Sequential:
    """Build a network of FLAT inputs (n, width) -> logits (n, outputs) with fresh weights.

    They depend on the seed alone, and the global generator stays untouched. Raises ValueError where the model cannot
    read records of this shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*model.layers(shape, outputs))


def load(model: AnyModel, shape: Shape, outputs: int, weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Build a network around these weights and buffers by name, see `state`; it takes their memory over.

    It is in training mode. Raises RuntimeError for weights of other names or shapes, ValueError where the model cannot
    read records of this shape.
    """
    network = copy.deepcopy(_without_weights(model, shape, outputs))
    counts = {name: torch.tensor(0) for name, buffer in network.named_buffers() if not buffer.is_floating_point()}
    network.load_state_dict({**counts, **weights}, assign=True)
    return network.requires_grad_(True)


def state(network: nn.Module) -> dict[str, Tensor]:
    """What travels of a network: its parameters and its float buffers, by name, not copied.

    A batch normalization's running_mean and running_var are among them, its count of batches is not.
    """
    return {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


@lru_cache(maxsize=8)
def _without_weights(model: AnyModel, shape: Shape, outputs: int) -> nn.Sequential:
    with torch.device("meta"):
        return nn.Sequential(*model.layers(shape, outputs))


def _narrow(width: int, bottleneck: int) -> list[nn.Module]:
    return [Bottleneck(width, bottleneck)] if bottleneck else []


def _width(shape: Shape) -> int:
    return int(torch.Size(shape).numel())


def _image(kind: str, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"model {kind!r} reads images, and these records are {_width(shape)} numbers without a shape")
    channels, height, width = shape
    if min(height, width) < 8:
        raise ValueError(f"model {kind!r} reads images of at least 8 x 8 pixels, not {height} x {width}")
    return channels, height, width
