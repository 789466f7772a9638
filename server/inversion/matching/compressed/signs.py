"""The objective for an update of signs: how far a batch's gradient is from having them, in closed form.

Signs are one bit for each parameter, far more bits than a batch has unknowns: as in one-bit compressed sensing
(Boufounos and Baraniuk 2008) they determine the records. A descent gets stuck where ReLUs switch, as the slopes behind
them jump and no derivative says so; softened at first and sharpened along the way, they do not jump.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..chain import Chain
from ..objective import Dense

WARM, COLD = 0.6, 0.2
"""Margin within which a sign is treated as uncertain, in mean absolute gradients: at a search's start and end."""
SOFT, SHARP = 6.0, 30.0
"""Sharpness of ReLUs at the start of a search and at its end."""
MOST = 128
"""Rows and columns of a layer behind the first that one evaluation compares; others take their turn."""
BEHIND = 0.125
"""Weight of a coordinate behind the first layer, where it is 1 in the first layer, which alone sees the records."""
MOST_BEHIND = 0.7
"""Largest weight of all coordinates behind the first layer, as a multiple of that of all in the first."""
TELLING = 32
"""Entries that a row or column must have: if all are of the sign that zeros are sent with, then they are zeros."""


@dataclass(frozen=True)
class Signs(Chain):
    """An Objective: the mean over coordinates of t log(1 + exp(-s g / (t m))), up to a factor.

    s is the sign of the true gradient's coordinate, g the batch's gradient there, m the mean of |g| over the parameter,
    so that a longer gradient is no better, and t the temperature.
    """

    signs: tuple[Dense, ...] = ()
    """Signs of the gradient by layer, -1 or 1; 0 on coordinates that tell of no record."""
    temperature: float = COLD
    """Margin within which a sign is treated as uncertain, in mean absolute gradients of the parameter."""
    turn: int = 0
    """Which of the rows and columns behind the first layer are compared, see MOST."""

    def at(self, share: float, step: int) -> "Signs":
        """The objective at the step number `step` of a search, the share 0 to 1 of its length."""
        return replace(
            self,
            temperature=WARM * (COLD / WARM) ** share,
            sharpness=SOFT * (SHARP / SOFT) ** share,
            turn=step,
        )

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The misfit (restarts,) and its slopes with respect to inputs and labels; see Objective."""
        seen = self.passes(inputs, labels)
        value, pulled, direct = inputs.new_zeros(len(inputs)), [], []
        for i, (h, d) in enumerate(zip(seen.hidden, seen.slopes, strict=True)):
            rows, columns = (slice(None), slice(None)) if i == 0 else self._turn(i)
            weight, bias = self.signs[i].weight[rows, columns], self.signs[i].bias[rows]
            worth = 1.0 if i == 0 else self._behind * self.signs[i].weight.numel() / max(1, weight.numel())
            narrow, short = d[..., rows], h[..., columns]
            more, by_weight = self._compared(narrow.mT @ short, weight)
            value = value + worth * more.sum((1, 2))
            more, by_bias = self._compared(narrow.sum(-2), bias)
            value = value + worth * more.sum(1)
            by_slopes = worth * (short @ by_weight.mT + by_bias[:, None])
            by_hidden = worth * (narrow @ by_weight)
            pulled.append(_placed(by_slopes, d, rows))
            direct.append(_placed(by_hidden, h, columns))
        by_inputs, by_labels = self.pull_back(seen, pulled, direct)
        count = self.signs[0].weight.numel()
        return value / count, by_inputs / count, by_labels / count

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`, roughly."""
        compared = sum(min(s.weight.numel(), MOST**2) for s in self.signs[1:]) + self.signs[0].weight.numel()
        return 8.0 * records * sum(layer.weight.numel() for layer in self.layers) + (6.0 * records + 60.0) * compared

    def held(self, records: int) -> int:
        """Numbers that one call holds in memory per intermediate tensor and restart."""
        return max(super().held(records), self.signs[0].weight.numel())

    @property
    def _behind(self) -> float:
        first, rest = self.signs[0].weight.numel(), sum(s.weight.numel() for s in self.signs[1:])
        return min(BEHIND, MOST_BEHIND * first / max(1, rest))

    def _turn(self, i: int) -> tuple[slice, slice]:
        """Every k-th row and column of layer i, so that at most about MOST of each are compared."""
        down, across = (-(-size // MOST) for size in self.signs[i].weight.shape)
        return slice(self.turn % down, None, down), slice(self.turn // down % across, None, across)

    def _compared(self, gradient: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
        """The misfit of each coordinate of `gradient` (restarts, ...), and its slope with respect to it."""
        there, inner = (signs != 0).to(gradient), tuple(range(1, gradient.ndim))
        count, gradient = there.sum().clamp_min(1), gradient * there
        size = gradient.abs().sum(inner, keepdim=True).clamp_min(1e-30) / count
        margin = signs * gradient / size
        pull = (-margin / self.temperature).sigmoid()
        by_size = (margin * pull).sum(inner, keepdim=True) / count
        value = self.temperature * softplus(-margin / self.temperature) * there
        return value, (by_size * gradient.sign() - signs * pull) / size


def _placed(part: Tensor, like: Tensor, at: slice) -> Tensor:
    """Zeros shaped as `like` (restarts, n, units) with `part` at the units `at`."""
    if part.shape == like.shape:
        return part
    whole = torch.zeros_like(like)
    whole[..., at] = part
    return whole


def read_signs(update: tuple[Dense, ...], masks: tuple[Dense, ...]) -> tuple[Dense, ...]:
    """The signs of the gradient by layer, 0 on coordinates where an update of signs tells of no record or masks are 0.

    An update of 0 may be sent as positive. A column whose entries are all positive belongs to an input of the layer
    that is 0 in all records: the unit before it then has no gradient either. In the first layer a row tells that, too.
    """
    columns = [_empty(layer.weight >= 0, i == len(update) - 1) for i, layer in enumerate(update)]
    found = []
    for i, (layer, mask) in enumerate(zip(update, masks, strict=True)):
        weight, bias = -layer.weight.sign(), -layer.bias.sign()
        idle = columns[i + 1] if i + 1 < len(update) else torch.zeros_like(bias, dtype=torch.bool)
        if i == 0 and weight.shape[1] >= TELLING and len(update) > 1:
            idle = idle | ((layer.weight >= 0).all(1) & (layer.bias >= 0))
        found.append(Dense(weight * mask.weight * ~idle[:, None] * ~columns[i], bias * mask.bias * ~idle))
    return tuple(found)


def _empty(plus: Tensor, last: bool) -> Tensor:
    """Columns (inputs,) of a layer that are all `plus` (outputs, inputs), where that is no chance."""
    # of several classes the outputs' slopes of one record add up to 0, so that a column of one sign has none
    return plus.all(0) & (len(plus) >= (2 if last else TELLING))


def tells_sizes(update: tuple[Dense, ...]) -> bool:
    """Whether the parameters were sent with sizes of their own, one each, instead of one for all or none."""
    sizes = torch.stack([t.abs().max() for layer in update for t in (layer.weight, layer.bias)])
    return bool(sizes.max() - sizes.min() > 1e-6 * sizes.max())


def absent(signs: tuple[Dense, ...]) -> Tensor:
    """Inputs that are 0 in all records, bool (inputs,): those whose column of the first layer's signs tells nothing."""
    return (signs[0].weight == 0).all(0)
