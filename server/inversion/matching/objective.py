"""What gradient matching minimizes: how badly batches explain an update, with the slopes that lead to better ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Loss = Literal["cross-entropy", "squared-error"]
Distance = Literal["cosine", "squared"]
"""Between gradients: one less their cosine, or their squared distance relative to the observed one's square."""


class Objective(Protocol):
    """A misfit over batches, all restarts at once."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """How badly batches explain the update.

        inputs float32 (restarts, n, width); labels float32 (restarts, n, classes), probabilities, or (restarts, n, 1),
        standardized regression targets. Returns the misfit (restarts,), its slope with respect to the inputs (restarts,
        n, width), and its slope with respect to the labels, of their shape and for probabilities up to a constant per
        record, or None where it cannot tell that.
        """
        ...


@dataclass(frozen=True)
class Dense:
    """A linear layer's parameters, or an update of them."""

    weight: Tensor
    """float32 (outputs, inputs)."""
    bias: Tensor
    """float32 (outputs,)."""


def dense_layers(tensors: Mapping[str, Tensor]) -> tuple[Dense, ...]:
    """Read a chain of linear layers by their parameters' names, "0.weight", "0.bias", "2.weight" and so on.

    Raises ValueError for anything that is no such chain.
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

    dot: with the target, scaled to length 1; square: with itself; size: the true gradient's length. Returns the
    misfit and its derivatives with respect to dot and square.
    """
    if distance == "cosine":
        per = square.clamp_min(1e-30).rsqrt()
        cosine = dot * per
        return 1 - cosine, -per, cosine * per.square() / 2
    value = square / size**2 - 2 * dot / size + 1
    return value, torch.full_like(dot, -2 / size), torch.full_like(dot, size**-2)
