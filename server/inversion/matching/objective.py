"""The objective of gradient matching: the distance of batches' gradients from an update, with its derivatives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Loss = Literal["cross-entropy", "squared-error"]
"""Losses that clients may minimize."""
Distance = Literal["cosine", "squared"]
"""Distances between gradients: 1 - cosine, or the squared distance relative to the observed gradient's square."""


class Objective(Protocol):
    """A misfit of batches, all restarts at once."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The misfit of batches: the distance of their gradients from the update.

        inputs float32 (restarts, n, width); labels float32 (restarts, n, classes), probabilities, or (restarts, n, 1),
        standardized regression targets. Returns the misfit (restarts,), its slope with respect to the inputs (restarts,
        n, width), and its slope with respect to the labels, of their shape and for probabilities up to a constant per
        record, or None where it is not available.
        """
        ...


@dataclass(frozen=True)
class Dense:
    """A linear layer's parameters, or an update of them."""

    weight: Tensor
    """Weight, float32 (outputs, inputs)."""
    bias: Tensor
    """Bias, float32 (outputs,)."""


def by_columns(matrix: Tensor) -> Tensor:
    """The matrix with each column in one piece, not each row: few rows times its transpose take half the time so."""
    return matrix.T.contiguous().T


def dense_layers(tensors: Mapping[str, Tensor]) -> tuple[Dense, ...]:
    """Read a chain of linear layers by their parameters' names, "0.weight", "0.bias", "2.weight" and so on.

    Raises ValueError for parameters that are not those of such a chain.
    """
    stems = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    if not stems or set(tensors) != {f"{s}.{kind}" for s in stems for kind in ("weight", "bias")}:
        raise ValueError(f"no chain of linear layers: parameters {sorted(tensors)}")
    layers = tuple(Dense(tensors[f"{s}.weight"].float(), tensors[f"{s}.bias"].float()) for s in stems)
    for i, layer in enumerate(layers):
        fits = layer.weight.ndim == 2 and layer.bias.shape == layer.weight.shape[:1]
        if not fits or (i and layer.weight.shape[1] != layers[i - 1].weight.shape[0]):
            raise ValueError(f"no chain of linear layers: {stems[i]}.weight has shape {tuple(layer.weight.shape)}")
    return layers


def slopes_of(distance: Distance, dot: Tensor, square: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor]:
    """A distance and its derivatives, all (restarts,), from products of a gradient with the target.

    dot: product with the target, which has norm 1; square: the gradient's squared norm; size: the true gradient's norm.
    Returns the misfit and its derivatives with respect to dot and square.
    """
    if distance == "cosine":
        per = square.clamp_min(1e-30).rsqrt()
        cosine = dot * per
        return 1 - cosine, -per, cosine * per.square() / 2
    value = square / size**2 - 2 * dot / size + 1
    return value, torch.full_like(dot, -2 / size), torch.full_like(dot, size**-2)
