"""The objective for an update of which a defense left only some coordinates, or signs.

The gradient is computed in full layer by layer, as closed-form products of gradients cannot leave out coordinates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..chain import Chain
from ..objective import Dense


@dataclass(frozen=True)
class Coordinates:
    """The direction to be explained on the coordinates that depend on the gradient."""

    targets: tuple[Dense, ...]
    """The direction by layer, of norm 1 over all, or its signs; 0 on all other coordinates."""
    masks: tuple[Dense, ...]
    """1 on coordinates that depend on the gradient, else 0, by layer."""
    signs: bool = False
    """Whether only signs were sent."""

    @property
    def count(self) -> int:
        """Number of coordinates that depend on the gradient."""
        return int(sum(m.weight.sum() + m.bias.sum() for m in self.masks))

    def misfit(self, hidden: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
        """Distance (restarts,) of the gradient whose layers are slopes^T hidden, each (restarts, n, width).

        1 - cosine; for signs 1 - (a - b), with a the share of the gradient's absolute sum that has the right signs and
        b the share that has wrong ones.
        """
        dot, size = hidden[0].new_zeros(len(hidden[0])), hidden[0].new_zeros(len(hidden[0]))
        for h, d, target, mask in zip(hidden, slopes, self.targets, self.masks, strict=True):
            if not bool(mask.weight.any()) and not bool(mask.bias.any()):
                continue
            for gradient, there, kept in (
                (d.mT @ h, target.weight, mask.weight),
                (d.sum(1), target.bias, mask.bias),
            ):
                seen = gradient * kept
                dot = dot + (gradient * there).flatten(1).sum(1)
                size = size + (seen.abs() if self.signs else seen.square()).flatten(1).sum(1)
        return 1 - dot / (size if self.signs else size.sqrt()).clamp_min(1e-30)


def coordinates(update: tuple[Dense, ...], masks: tuple[Dense, ...], signs: bool) -> Coordinates:
    """The negated update on the coordinates of `masks`. Raises ValueError where there are none, or all are zero."""
    kept = [Dense(-u.weight * m.weight, -u.bias * m.bias) for u, m in zip(update, masks, strict=True)]
    norm = float(sum(k.weight.double().square().sum() + k.bias.double().square().sum() for k in kept) ** 0.5)
    if not norm > 0:
        raise ValueError("no coordinate of the update tells of the gradient")
    if signs:
        return Coordinates(tuple(Dense(k.weight.sign(), k.bias.sign()) for k in kept), masks, True)
    return Coordinates(tuple(Dense(k.weight / norm, k.bias / norm) for k in kept), masks)


def masks_of(masks: Mapping[str, Tensor], like: tuple[Dense, ...]) -> tuple[Dense, ...]:
    """Boolean masks by parameter name as layers of 0 and 1, with the type and device of `like`."""
    values = [mask.to(like[0].weight) for mask in masks.values()]
    return tuple(Dense(w, b) for w, b in zip(values[::2], values[1::2], strict=True))


@dataclass(frozen=True)
class Partial(Chain):
    """An Objective: the distance of a chain's gradient from an update on the coordinates that depend on it."""

    known: Coordinates = field(default_factory=lambda: Coordinates((), ()))
    """The target on those coordinates."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The misfit (restarts,) and its slopes with respect to inputs and labels; see Objective."""
        with torch.enable_grad():
            x, y = inputs.detach().requires_grad_(), labels.detach().requires_grad_()
            seen = self.passes(x, y)
            value = self.known.misfit(seen.hidden, seen.slopes)
            by_inputs, by_labels = torch.autograd.grad(value.sum(), (x, y))
        return value.detach(), by_inputs, by_labels

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`, roughly."""
        return super().flops(records) + 6.0 * records * sum(layer.weight.numel() for layer in self.layers)

    def held(self, records: int) -> int:
        """Numbers that one call holds in memory per intermediate tensor and restart."""
        return max(super().held(records), *(2 * layer.weight.numel() for layer in self.layers))
