"""What the update of a single layer tells of how many records went into it, without any truth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.task.foreign.layers import Layer
from fedinv.task.models import AnyModel

ROUNDING = 2.0**-24
"""Relative rounding error of a float32 number."""
ABOVE = 1.5
"""Singular values this many times larger than the largest that rounding alone would leave count towards the rank."""
ALIKE = 0.83
"""Ratio of the mean to the root mean square of an update's sizes above which its entries are all of about one size, as
after a step of Adam (1.00; 0.85 to 0.89 after eight) or of signs (1); normal ones have 0.80, a gradient mostly less."""


@dataclass(frozen=True)
class Origin:
    """What a run of fedinv's tells beside an update: the network that is built here, and how it was trained."""

    model: AnyModel
    """The network, fitted to the schema."""
    linear: bool
    """Whether local steps are sums of gradients, as with SGD, and no optimizer rescales their entries."""
    single: bool
    """Whether clients took a single local step."""
    width: int
    """Numbers of an encoded record."""


@dataclass(frozen=True)
class LayerUpdate:
    """A layer of a network with what one client's update of it shows."""

    layer: Layer
    shape: tuple[int, ...]
    """Shape of its weight; empty where it has none that was on the wire."""
    biased: bool
    """Whether the update of its bias was on the wire too, without which records are known up to their length."""
    rank: int
    """Rank of the update of weight and bias above rounding: without noise, weight decay and optimizers that rescale
    entries, the number of directions of this layer's inputs, so that no fewer records, times places, went into it."""
    most: int
    """Largest rank that it could have; a rank as large bounds nothing."""
    alike: float
    """Mean of the sizes of its entries that changed over their root mean square; 0 where none changed."""
    records: int = 0
    """Number of records taken to be behind the update, by the ranks of all layers, or as the client reports, who is not
    to be trusted, as some count batches; 0 where nothing is known."""
    first: bool = False
    """Whether no linear layer runs before it."""
    origin: Origin | None = None
    """Where the update comes from; None where nothing but the network is known."""
    resting: float = 0.0
    """Share of its weight's entries that are exactly 0 among the units and inputs of which others moved, 0 to 1: behind
    a ReLU those of which no record had the input while the unit was active, whatever the optimizer."""

    @property
    def on_wire(self) -> bool:
        """Whether an update of the layer was on the wire."""
        return bool(self.shape)

    @property
    def moved(self) -> bool:
        """Whether anything of the layer changed by more than rounding."""
        return self.rank > 0

    @property
    def full(self) -> bool:
        """Whether the rank is as large as it can be, so that it bounds nothing.

        Of a last layer under cross-entropy that is one less than its outputs, as their slopes sum to 0.
        """
        return self.rank >= max(1, self.most - (self.layer.gate == "last"))

    @property
    def bounded(self) -> bool:
        """Whether the rank bounds the number of records from below.

        It does where it is less than it could be, and no optimizer has rescaled the entries.
        """
        return self.moved and not self.full and not self.rescaled

    @property
    def rescaled(self) -> bool:
        """Whether the entries are all of about one size, as an optimizer such as Adam, or signs, leave them."""
        return self.alike > ALIKE if self.origin is None else not self.origin.linear

    @property
    def least(self) -> int:
        """Least number of records that the layer's rank leaves possible; 0 where it bounds nothing."""
        return math.ceil(self.rank / self.layer.places) if self.bounded else 0

    @property
    def units_per_record(self) -> float:
        """Output units for each record behind the update; 0 where either is not known."""
        return self.shape[0] / self.records if self.shape and self.records else 0.0


def layer_update(
    layer: Layer, sent: Mapping[str, Tensor], update: Mapping[str, Tensor], noise: float = 0.0
) -> LayerUpdate:
    """Measure the update of a layer by the weights that were sent and their changes, by the network's own names.

    `noise` is the standard deviation of what a known rounding added to each entry, above which ranks are counted.
    """
    weight = layer.weight
    if weight is None or weight not in update or weight not in sent or not update[weight].is_floating_point():
        return LayerUpdate(layer, (), False, 0, 0, 0.0)
    biased = layer.bias is not None and layer.bias in update and len(update[layer.bias]) == len(update[weight])
    matrix, base = (matrix_of(arrays, weight, layer.bias if biased else None) for arrays in (update, sent))
    changed = matrix[matrix != 0].abs()
    weights = matrix[:, : matrix.shape[1] - biased]
    among = weights[weights.any(1)][:, weights.any(0)]
    std = math.hypot(ROUNDING * float(base.square().mean().sqrt()), noise)
    edge = math.sqrt(matrix.shape[0]) + math.sqrt(matrix.shape[1])  # of noise alone (Marchenko, Pastur 1967)
    values = torch.linalg.svdvals(matrix)
    moving = matrix.abs() > std
    return LayerUpdate(
        layer=layer,
        shape=tuple(update[weight].shape),
        biased=biased,
        rank=int((values > ABOVE * std * edge).sum()),
        most=min(int(moving.any(1).sum()), int(moving.any(0).sum())),
        alike=float(changed.mean() / changed.square().mean().sqrt()) if len(changed) else 0.0,
        resting=float((among == 0).double().mean()) if among.numel() else 0.0,
    )


def matrix_of(arrays: Mapping[str, Tensor], weight: str, bias: str | None) -> Tensor:
    """A layer's weight as a matrix (outputs, the rest), float64, with its bias, if it is named, as one more column.

    A weight that is a vector becomes a column.
    """
    tensor = arrays[weight].double()
    matrix = tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(-1, 1)
    return matrix if bias is None else torch.cat([matrix, arrays[bias].double()[:, None]], 1)
