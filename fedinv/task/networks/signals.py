"""A convolutional network for signals."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from fedinv.task.networks.architecture import Architecture, Shape
from fedinv.task.networks.perceptron import Whole, bottleneck_layers, width_of


class SignalConvnet(Architecture):
    """A one-dimensional convolutional network: convolutions over time with ReLU, then dense layers with ReLU.

    The mean of two samples is taken after each convolution. The default has 69,000 parameters for three classes of 128
    samples. What it gives the server: the features of the records span the update of the first dense layer, and where
    there are more features than samples mostly one signal has them.
    """

    images: ClassVar[bool] = True

    kind: Literal["convnet-1d"] = "convnet-1d"
    """Selects this network, and with it the keys that the table may have."""
    channels: tuple[Whole, ...] = Field(default=(16, 32), min_length=1, max_length=20)
    """Output channels of each block's convolution; as many blocks as numbers."""
    kernel: int = Field(default=7, ge=1, le=99)
    """Samples that a convolution sees at once, an odd number."""
    hidden: tuple[Whole, ...] = Field(default=(64,), max_length=20)
    """Units of each dense layer between the blocks and the outputs; empty for none."""
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Width of the variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order. Raises ValueError for what is no signal, or for one that is too short."""
        if len(shape) != 3 or shape[1] != 1:
            found = f"{width_of(shape)} numbers without a shape" if len(shape) != 3 else "images of several rows"
            raise ValueError(f"model {self.kind!r} reads signals, and these records are {found}")
        if self.kernel % 2 == 0:
            raise ValueError(
                f"model.kernel: {self.kernel} is even, so that a block would shift the signal: make it odd"
            )
        before, _, length = shape
        layers: list[nn.Module] = [nn.Unflatten(1, (before, length))]
        for after in self.channels:
            layers += [nn.Conv1d(before, after, self.kernel, padding=self.kernel // 2), nn.ReLU()]
            if length < 2:
                raise ValueError(
                    f"model.channels: {len(self.channels)} blocks halve {shape[2]} samples too often: list fewer"
                )
            layers.append(nn.AvgPool1d(2))
            before, length = after, length // 2
        widths = [before * length, *self.hidden]
        layers.append(nn.Flatten())
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        return [*layers, *bottleneck_layers(widths[-1], self.bottleneck), nn.Linear(widths[-1], outputs)]
