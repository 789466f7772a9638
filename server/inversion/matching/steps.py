"""Optimizers that minimize all restarts at once, each independently: signed Adam, Adam, L-BFGS.

Each is a generator: it yields the points (restarts, m) to be evaluated next and is sent their values (restarts,) and
slopes (restarts, m). A point may be projected in place onto the allowed range before it is evaluated.
"""

import math
from collections.abc import Generator, Sequence
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["signed-adam", "adam", "l-bfgs"]
"""Names of the optimizers."""
Schedule = Literal["cosine", "steps", "constant"]
"""Names of the step lengths' decays, see `lengths`."""
Walk = Generator[Tensor, tuple[Tensor, Tensor], None]
"""An optimizer under way, see the module's docstring."""

MEMORY = 20
"""Number of pairs of moves and gradient changes that L-BFGS keeps."""


def lengths(schedule: Schedule, lr: float, iterations: int) -> list[float]:
    """The length of each step, starting at `lr`: cosine decay to 0, a tenth after 3/8, 5/8 and 7/8, or constant."""
    if schedule == "cosine":
        return [lr * 0.5 * (1 + math.cos(math.pi * i / iterations)) for i in range(iterations)]
    if schedule == "steps":
        return [lr * 0.1 ** sum(8 * i >= k * iterations for k in (3, 5, 7)) for i in range(iterations)]
    return [lr] * iterations


def walk(rule: Rule, start: Tensor, steps: Sequence[float]) -> Walk:
    """Start an optimizer at `start` (restarts, m), which is not changed, with these step lengths."""
    if rule == "l-bfgs":
        return _lbfgs(start.clone(), steps)
    return _signed_adam(start.clone(), steps) if rule == "signed-adam" else _adam(start.clone(), steps)


def _signed_adam(point: Tensor, steps: Sequence[float]) -> Walk:
    """Adam on the signs of the slopes (Geiping et al. 2020); a sign's square is 1, so that no second moment is kept."""
    drift = torch.zeros_like(point)
    for i, step in enumerate(steps, 1):
        _, slope = yield point
        drift.mul_(0.9).add_(slope.sign(), alpha=0.1)
        point.add_(drift, alpha=-step / (1 - 0.9**i))
    yield point


def _adam(point: Tensor, steps: Sequence[float]) -> Walk:
    """Adam (Kingma and Ba 2015)."""
    drift, power = torch.zeros_like(point), torch.zeros_like(point)
    for i, step in enumerate(steps, 1):
        _, slope = yield point
        drift.mul_(0.9).add_(slope, alpha=0.1)
        power.mul_(0.999).addcmul_(slope, slope, value=0.001)
        scale = (power / (1 - 0.999**i)).sqrt_().add_(1e-8)
        point.addcdiv_(drift, scale, value=-step / (1 - 0.9**i))
    yield point


def _lbfgs(point: Tensor, steps: Sequence[float]) -> Walk:
    """L-BFGS with backtracking (Nocedal and Wright 2006, algorithms 7.5 and 3.1), one evaluation a step.

    Every restart has a line search of its own: where the step lowered the value enough the restart moves on, elsewhere
    it tries a shorter step from the same point. A pair of negative curvature is not kept; a line search that fails
    drops all pairs.
    """
    restarts, m = point.shape
    moves, turns = (torch.zeros(MEMORY, restarts, m, dtype=point.dtype, device=point.device) for _ in range(2))
    inverse = torch.zeros(MEMORY, restarts, dtype=point.dtype, device=point.device)
    ids = torch.arange(restarts, device=point.device)
    newest = torch.zeros(restarts, dtype=torch.long, device=point.device)
    base = point.clone()
    value, slope = yield point
    value, slope = _finite(value, slope)
    way = -slope
    length = _first(slope, steps[0] if steps else 1.0)
    for step in steps:
        point = base + length[:, None] * way
        tried, there = _finite(*(yield point))
        move, turn = point - base, there - slope
        fall = (slope * move).sum(1)
        moved = tried <= value + 1e-4 * fall.clamp_max(0)
        moved &= tried.isfinite()
        curved = (move * turn).sum(1)
        keep = moved & (curved > 1e-10 * turn.square().sum(1)) & (curved > 0)
        newest = torch.where(keep, (newest + 1) % MEMORY, newest)
        moves[newest, ids] = torch.where(keep[:, None], move, moves[newest, ids])
        turns[newest, ids] = torch.where(keep[:, None], turn, turns[newest, ids])
        inverse[newest, ids] = torch.where(keep, 1 / curved.clamp_min(1e-30), inverse[newest, ids])
        base = torch.where(moved[:, None], point, base)
        slope = torch.where(moved[:, None], there, slope)
        value = torch.where(moved, tried, value)
        stuck = ~moved & (length < 1e-4 * step)
        inverse[:, stuck] = 0
        descent = -_two_loops(slope, moves, turns, inverse, newest, ids)
        downhill = (descent * slope).sum(1) < 0
        descent = torch.where(downhill[:, None], descent, -slope)
        empty = (inverse[newest, ids] == 0) | ~downhill
        again = moved | stuck
        way = torch.where(again[:, None], descent, way)
        begin = torch.where(empty, _first(slope, step), torch.full_like(length, step))
        # a stuck restart starts with a shorter step, else it would try the same ones forever
        length = torch.where(again, torch.where(stuck, 1e-2 * begin, begin), length * 0.3)
    yield base


def _finite(value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    return value.nan_to_num(nan=torch.inf), slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _first(slope: Tensor, step: float) -> Tensor:
    return step * (1 / slope.abs().sum(1).clamp_min(1e-30)).clamp_max(1.0)


def _two_loops(slope: Tensor, moves: Tensor, turns: Tensor, inverse: Tensor, newest: Tensor, ids: Tensor) -> Tensor:
    """The inverse Hessian's estimate times the slope, restart by restart; pairs of weight 0 are skipped."""
    way, shares = slope.clone(), []
    order = [(newest - i) % MEMORY for i in range(MEMORY)]
    for at in order:
        share = inverse[at, ids] * (moves[at, ids] * way).sum(1)
        shares.append(share)
        way = way - share[:, None] * turns[at, ids]
    last, weight = turns[newest, ids], inverse[newest, ids]
    scale = torch.where(weight > 0, 1 / (weight * last.square().sum(1)).clamp_min(1e-30), 1.0)
    way = way * scale[:, None]
    for at, share in zip(reversed(order), reversed(shares), strict=True):
        again = inverse[at, ids] * (turns[at, ids] * way).sum(1)
        way = way + (share - again)[:, None] * moves[at, ids]
    return way
