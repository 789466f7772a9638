"""Fits records' numbers to an update through the optimizer's own steps, by Gauss-Newton in closed form.

Where an entry's gradients differ from step to step its change is a function of their ratios, which float32 keeps to
about 1e-6 however large they are; so a few thousand entries fix all numbers. An entry whose sign is still wrong is off
by a multiple of the learning rate: such are weighted down, and a step is judged by a quantile of the residuals.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import clock
from .replay import Course, Pass, replay, response

QUANTILES = (0.5, 0.35, 0.2)
"""Quantiles of the residuals by which a step is judged, the next one once no step improves on the one before."""
LENGTHS = (1.0, 0.4, 0.1)
"""Multiples of a Gauss-Newton step that are tried."""
FLOOR = 0.3
"""Quantile of the residuals, in standard deviations of rounding, at which the fit has arrived."""
ARRIVED = 3.0
"""Quantile of the residuals at which a fit that no step improves has arrived: what is left is rounding."""
ABRUPT = 0.05
"""Change of a number, in standard deviations, within which an entry that counts changes by ABRUPTLY scales at most."""
ABRUPTLY = 300.0
"""Largest change of an entry, in scales of the residuals, over ABRUPT of a number; others are about to change sign."""


@dataclass(frozen=True)
class Entry:
    """p entries of the first two layers, as observed."""

    at: tuple[Tensor, ...]
    """Position (unit, input) of the entries of each layer, int64 (p_l, 2)."""
    observed: Tensor
    """Changes of the entries, (p,)."""
    spread: Tensor
    """Standard deviation of rounding in each, (p,)."""

    def of(self, layers: list[Tensor]) -> Tensor:
        """The entries (p,) of layers or of their changes."""
        return torch.cat([w[a[:, 0], a[:, 1]] for w, a in zip(layers, self.at, strict=False)])

    def off(self, moved: list[Tensor]) -> Tensor:
        """How far layers' changes are from the observed ones at the entries, (p,), in standard deviations."""
        return (self.of(moved) - self.observed) / self.spread


def derivatives(course: Course, seen: list[Pass], entry: Entry, numbers: Tensor) -> Tensor:
    """Derivatives (p, n, m) of the entries' changes by the numbers of the records, by a replay's passes.

    The path of the weights is taken as constant, which is wrong by little at the second layer and by much at the first.
    """
    gradients = torch.stack([_gradients(one, entry) for one in seen])
    slope = response(course.descent, gradients, entry.of(course.start))
    found = course.start[0].new_zeros(len(entry.observed), len(course.labels), len(numbers))
    for one, factor in zip(seen, slope, strict=True):
        found.index_add_(1, one.rows, _jacobian(one, entry, numbers) * factor[:, None, None])
    return found


def _gradients(one: Pass, entry: Entry) -> Tensor:
    parts = [(one.slopes[k][:, a[:, 0]] * one.inputs[k][:, a[:, 1]]).sum(0) for k, a in enumerate(entry.at)]
    return torch.cat(parts)


def _jacobian(one: Pass, entry: Entry, numbers: Tensor) -> Tensor:
    """Derivatives (p, b, m) of the entries' gradients at one step by the numbers of its records."""
    first = one.layers[0][:, numbers]
    bent = one.curve @ (one.jacobians[0] @ first)
    parts = []
    for k, at in enumerate(entry.at):
        unit, column = at[:, 0], at[:, 1]
        moved = torch.einsum("bkp,bkm->pbm", one.jacobians[k][:, :, unit], bent)
        part = moved * one.inputs[k][:, column].T[:, :, None]
        slope = one.slopes[k][:, unit].T[:, :, None]
        if k == 0:
            part = part + slope * (column[:, None, None] == numbers)
        else:
            inner = torch.cat([first, first.new_zeros(1, len(numbers))])[column]
            active = (one.inputs[1][:, column] > 0).T[:, :, None]
            part = part + slope * active * inner[:, None]
        parts.append(part)
    return torch.cat(parts)


@dataclass(frozen=True)
class Fitted:
    """Records with fitted numbers."""

    records: Tensor
    """The records, float64 (n, d)."""
    scale: float
    """1.5 times the median residual, in standard deviations of rounding: 1 where the update is explained to the last
    digits."""


def fit(
    course: Course,
    draw: Callable[[], Entry],
    records: Tensor,
    numbers: Tensor,
    bounds: tuple[Tensor, Tensor],
    iterations: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Fitted:
    """Fit the numbers of records (n, d), within bounds (m,) each, to entries that are drawn for each step.

    New entries at each step keep the fit from settling where the signs of a few of them are wrong.
    """
    n, m = len(records), len(numbers)
    low, high = bounds
    x, quantiles = records.clone(), list(QUANTILES)

    def scale_of(residual: Tensor) -> float:
        return max(1.5 * float(residual.abs().quantile(quantiles[0])), FLOOR)

    entry = draw()
    seen, moved = replay(course, x)
    for done in range(iterations):
        if clock.over() or not m:
            break
        residual = entry.off(moved)
        scale = scale_of(residual)
        if scale <= FLOOR:
            break
        jacobian = derivatives(course, seen, entry, numbers).flatten(1) / entry.spread[:, None]
        weight = 1 / (1 + (residual / (2 * scale)).square()).square()
        calm = jacobian.isfinite().all(1) & (jacobian.abs().amax(1) * ABRUPT < ABRUPTLY * scale)
        weight, steady = weight * calm, torch.where(calm[:, None], jacobian, 0.0)
        square = steady.T @ (steady * weight[:, None])
        damping = square.diagonal() + 1e-3 * square.diagonal().mean() + TINY_DAMPING
        step = torch.linalg.solve(square + 1e-9 * torch.diag(damping), -((weight * residual) @ steady))
        best = None
        for length in LENGTHS:
            tried = x.clone()
            tried[:, numbers] = (x[:, numbers] + length * step.view(n, m).clamp(-1, 1)).clamp(low, high)
            passes, again = replay(course, tried)
            if scale_of(entry.off(again)) < scale * (1 - 1e-4):
                best = (tried, passes, again)
                break
        progress(done / iterations)
        entry = draw()
        if best is None:
            quantiles.pop(0)
            if not quantiles or scale < ARRIVED:
                break
            continue
        change = float((best[0] - x).abs().max())
        x, seen, moved = best
        if change < 1e-7:
            break
    return Fitted(x, 1.5 * float(entry.off(moved).abs().median()))


TINY_DAMPING = 1e-300
"""Keeps the equations solvable where no entry depends on any number."""


def pick(
    moved: list[Tensor], most: tuple[int, int], numbers: Tensor, generator: torch.Generator, *, best: bool
) -> tuple[Tensor, ...]:
    """Positions of entries of the first two layers that moved, at most `most` of each: of numbers' columns first.

    With `best` those that moved least, of which a single step's gradients are known best; else drawn.
    """
    chosen = []
    for k, (one, count) in enumerate(zip(moved[:2], most, strict=True)):
        at = one.nonzero()
        order = torch.randperm(len(at), generator=generator)
        if best:
            order = one[at[:, 0], at[:, 1]].abs().argsort(stable=True)
        at = at[order]
        if k == 0:
            own = (at[:, 1:] == numbers).any(1)
            at = torch.cat([at[own][: count // 2], at[~own], at[own][count // 2 :]])
        chosen.append(at[:count])
    return tuple(chosen)
