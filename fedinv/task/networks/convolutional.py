"""Convolutional networks for images."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from fedinv.task.networks.architecture import Architecture, Shape
from fedinv.task.networks.perceptron import Whole, bottleneck_layers, width_of


class Lenet(Architecture):
    """The LeNet of Zhu et al. 2019 (Deep leakage from gradients, section 4.1), for images of at least 8 x 8.

    Three convolutions 5 x 5 of 12 channels with strides 2, 2 and 1, a sigmoid after each, one linear layer. All
    parameters begin uniform in [-0.5, 0.5], as there: smaller ones let a sigmoid network's gradient fade.
    """

    images: ClassVar[bool] = True

    kind: Literal["lenet"] = "lenet"
    """Selects this network, and with it the keys that the table may have."""
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Width of the variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order. Raises ValueError for what is no image of at least 8 x 8."""
        channels, height, width = _image(self.kind, shape)
        layers: list[nn.Module] = [nn.Unflatten(1, (channels, height, width))]
        for before, stride in ((channels, 2), (12, 2), (12, 1)):
            layers += [nn.Conv2d(before, 12, 5, stride, padding=2), nn.Sigmoid()]
        rest = 12 * ((height + 3) // 4) * ((width + 3) // 4)
        layers += [nn.Flatten(), *bottleneck_layers(rest, self.bottleneck), nn.Linear(rest, outputs)]
        for layer in layers:
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -0.5, 0.5)
        return layers


class Convnet(Architecture):
    """A small convolutional network: blocks of a convolution 3 x 3, a normalization and ReLU, then a linear layer.

    2 x 2 means are taken after each block while both sides are at least 4. The default has 246,000 parameters for ten
    classes of 32 x 32 color images.
    """

    images: ClassVar[bool] = True

    kind: Literal["convnet"] = "convnet"
    """Selects this network, and with it the keys that the table may have."""
    channels: tuple[Whole, ...] = Field(default=(32, 64, 128, 128), min_length=1, max_length=100)
    """Output channels of each block's convolution; as many blocks as numbers."""
    norm: Literal["none", "batch"] = "none"
    """Normalization after each convolution. Batch normalization mixes the records of a batch, so that defenses that
    clip each record's gradient refuse it; its running statistics travel with the update."""
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Width of the variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    @property
    def no_own_gradients(self) -> str | None:
        """Batch normalization makes each record's output depend on the others of its batch."""
        if self.norm == "batch":
            return 'model.norm = "batch" mixes the records of a batch: use norm = "none"'
        return None

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
        return [*layers, nn.Flatten(), *bottleneck_layers(rest, self.bottleneck), nn.Linear(rest, outputs)]


def _image(kind: str, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(
            f"model {kind!r} reads images, and these records are {width_of(shape)} numbers without a shape"
        )
    channels, height, width = shape
    if min(height, width) < 8:
        raise ValueError(f"model {kind!r} reads images of at least 8 x 8 pixels, not {height} x {width}")
    return channels, height, width
