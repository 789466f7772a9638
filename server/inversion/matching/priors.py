"""Priors on inputs, which penalize implausible records: each a function of inputs with its slope."""

from collections.abc import Callable

import torch
from torch import Tensor

Prior = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function from inputs (restarts, n, width) to a penalty (restarts,) and its slope (restarts, n, width)."""


def total_variation(weight: float, shape: tuple[int, ...]) -> Prior:
    """Penalize the mean absolute difference of neighboring pixels (Rudin et al. 1992; Geiping et al. 2020, eq. 4).

    `shape` is (channels, height, width); vertical and horizontal means are added. Of one row, as a signal has, it is
    that along the row.
    """

    def prior(inputs: Tensor) -> tuple[Tensor, Tensor]:
        pixels = inputs.reshape(*inputs.shape[:-1], *shape)
        down, across = pixels.diff(dim=-2), pixels.diff(dim=-1)
        value = _mean(down.abs()) + _mean(across.abs())
        slope = torch.zeros_like(pixels)
        if down.numel():
            sign = down.sign() / down[0].numel()
            slope[..., 1:, :] += sign
            slope[..., :-1, :] -= sign
        if across.numel():
            sign = across.sign() / across[0].numel()
            slope[..., 1:] += sign
            slope[..., :-1] -= sign
        return weight * value, weight * slope.flatten(-3)

    return prior


def squares(weight: float) -> Prior:
    """Penalize the mean square of the inputs (Yin et al. 2021, See through gradients, eq. 8, there a norm)."""

    def prior(inputs: Tensor) -> tuple[Tensor, Tensor]:
        return weight * inputs.square().mean((1, 2)), inputs * (2 * weight / inputs[0].numel())

    return prior


def group(weight: float) -> Prior:
    """Penalize each restart's mean squared distance from the mean of all (Yin et al. 2021, eq. 11, no registration).

    Restarts are compared position by position. Their labels are in the same order, so that this is right where no two
    records share a label, and blurs records that do. The mean counts as constant.
    """

    def prior(inputs: Tensor) -> tuple[Tensor, Tensor]:
        distance = inputs - inputs.mean(0)
        return weight * distance.square().mean((1, 2)), distance * (2 * weight / inputs[0].numel())

    return prior


def _mean(values: Tensor) -> Tensor:
    """Mean over all but the first axis, (restarts,); 0 of none."""
    return values.flatten(1).sum(1) / max(1, values[0].numel())
