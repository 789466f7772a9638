"""Reads gradients' magnitudes back out of a single step of an optimizer that rescales each entry.

From rest a step is lr |g| / (a |g| + e), with a = 1 and e = 1e-8 for Adam, a = sqrt(1 - alpha) for RMSprop, a = 0 for
SGD. Its deficit from lr / a is about e / (a |g|): small, but float32 keeps the update to 6e-8 of itself, so that |g| is
known to about |g| / e times that: 0.06 % at 1e-4, 0.6 % at 1e-3. That is enough for the spans of the gradient, where
records are found as behind SGD, and for a fit to every digit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge
from fedinv.task.optimizers import LocalDescent, Memory

ROUNDING = 1.2e-7
"""Relative error of an update of one step: float32's, of some operations."""
FORM = 1e-6
"""Largest relative deviation from lr |g| / (a |g| + e) with which an optimizer's step counts as one of that form."""
FLOOR = 1e-3
"""Least standard deviation of a gradient's entry, relative to the median entry's size."""
ROUNDS = 4
"""Rounds of alternating least squares."""
GRADIENTS = (1e-9, 1e-7, 1e-5, 1e-3, 1e-1, 10.0)
"""Gradients at which the form is checked."""


@dataclass(frozen=True)
class FirstStep:
    """A step from rest as |g| / (gain |g| + offset) times the learning rate."""

    gain: float
    offset: float
    lr: float

    def gradient(self, change: Tensor) -> Tensor:
        """The gradient that makes a change, float64; at most the largest that float32 tells from an infinite one."""
        ratio = change.double().abs() / self.lr
        deficit = (1 - self.gain * ratio).clamp_min(ROUNDING / 2)
        return -change.double().sign() * self.offset * ratio / deficit

    def spread(self, gradient: Tensor) -> Tensor:
        """Standard deviation of each entry of a gradient that was read off a change."""
        size = gradient.abs()
        least = FLOOR * float(size[size > 0].median()) if bool((size > 0).any()) else 1.0
        return ROUNDING / 2 * size * (self.gain * size / self.offset + 5) + least


def first_step(descent: LocalDescent) -> FirstStep:
    """The form of an optimizer's first step. Raises ValueError where it has another, or decay is mixed in."""
    g = torch.tensor(GRADIENTS, dtype=torch.float64)
    weights = torch.zeros_like(g)
    size = descent.direction([g], [weights], [weights], Memory())[0][0]
    # 1 / size = gain + offset / g: a line in 1 / g, by its two ends
    inverse, slope = 1 / size, 1 / g
    offset = float((inverse[0] - inverse[-1]) / (slope[0] - slope[-1]))
    gain = float(inverse[-1] - offset * slope[-1])
    if not bool(((gain + offset * slope) * size - 1).abs().max() < FORM):
        raise ValueError("the optimizer's first step does not tell gradients' magnitudes")
    return FirstStep(gain, offset, descent.lrs(1)[0])


def decoded(last: Exchange, knows: Knowledge, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The update that one step of plain SGD at the same learning rate would have sent, float32 by parameter.

    `plain` is the change of each parameter by decay alone. The first two layers are smoothed to the rank that the
    records leave them. Raises ValueError where magnitudes are not revealed.
    """
    step = first_step(knows.descent)
    found = {name: step.gradient(tensor.double() - plain[name]) for name, tensor in last.received.items()}
    names = list(found)
    for w, b in (names[:2], names[2:4]):
        layer = torch.cat([found[w], found[b][:, None]], 1)
        if last.records < min(layer.shape):
            layer = smoothed(layer, step.spread(layer), last.records)
        found[w], found[b] = layer[:, :-1], layer[:, -1]
    return {name: (-step.lr * gradient).float() for name, gradient in found.items()}


def smoothed(layer: Tensor, spread: Tensor, rank: int) -> Tensor:
    """A matrix of at most `rank` as near as possible to `layer` (o, i), each entry weighted by its own spread.

    Alternating least squares from the truncated singular values: the largest gradients are known worst, and would bury
    what the smaller ones tell.
    """
    columns = torch.linalg.svd(layer, full_matrices=False)[2][:rank].T
    weight = spread.square().reciprocal()
    weight = weight / weight.median()
    for _ in range(ROUNDS):
        rows = torch.linalg.qr(_solved(layer, weight, columns)).Q
        mixed = _solved(layer.T, weight.T, rows)
        columns = torch.linalg.qr(mixed).Q
    found: Tensor = rows @ mixed.T
    return found


def _solved(layer: Tensor, weight: Tensor, basis: Tensor) -> Tensor:
    """Coefficients (o, r) of each row of `layer` (o, i) in a basis (i, r), by weighted least squares."""
    pairs = (basis[:, :, None] * basis[:, None]).flatten(1)
    square = (weight @ pairs).view(-1, basis.shape[1], basis.shape[1])
    aside = (weight * layer) @ basis
    ridge = 1e-9 * square.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(basis.shape[1], dtype=basis.dtype)
    found: Tensor = torch.linalg.solve(square + ridge, aside)
    return found
