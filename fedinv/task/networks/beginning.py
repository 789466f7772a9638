"""The first two linear layers of a network as functions of a record: the equations that their updates are."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """Names of a linear layer's parameters."""

    weight: str
    """Name of the weight (outputs, inputs)."""
    bias: str | None
    """Name of the bias (outputs,); None where the layer has none."""


@dataclass(frozen=True)
class Beginning:
    """The first two linear layers of a network at known weights, float64, as functions of encoded records (n, d).

    The first layer's inputs are z = records @ matrix.T + shift, (n, w). As a batch updates that layer by D^T Z,
    whatever D the rest of the network gives, the rows of its update span the records' z.
    """

    matrix: Tensor
    """Linear part of the first layer's inputs, (w, d)."""
    shift: Tensor
    """Constant part of the first layer's inputs, (w,)."""
    first: Layer
    second: Layer | None
    """The second linear layer; None where there is none behind an activation."""
    units: tuple[Tensor, Tensor] | None
    """Weight (h, w) and bias (h,) of an affine map from the first layer's inputs to what the activation before the
    second layer is given; None where that is no such map of a record alone, or random."""
    activation: str
    """Activation before the second layer."""
    uses: tuple[Tensor | None, ...]
    """Update of what each category's values alone move, (anything, values), one for each column of the records: its
    column j is zero where no record has the value j. None for numbers, and for categories that share parameters."""
    widths: tuple[tuple[slice, bool], ...]
    """Inputs of each column of a record, and whether they are the one-hot values of a category."""
    center: Tensor | None
    """Mean (w,) of the first layer's inputs over the batch, where a normalization over the batch tells it: the rows of
    the first layer's update then span differences between records alone. None without one, and after several steps."""
    apart: bool
    """Whether each record passes the network by itself: False behind a normalization over the batch."""
    random: bool
    """Whether parts of the network are random in training, so that nothing can be trained again."""
