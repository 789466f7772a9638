"""Searches records one by one: discrete columns by the best single change, numbers by Gauss-Newton."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .. import clock
from ..activations import Activation, curve

KNOWN = 0.01
"""Floor added to `novelty` in the denominator of `attraction`: without it records near a found one would get an
infinite cost, and true neighbors of it would be missed."""
CHUNK = 2**24
"""Most numbers that an intermediate tensor of one evaluation may hold."""
DAMPING = 1e-6
"""Levenberg's damping, as a share of the mean diagonal entry of J J^T."""
LENGTHS = (1.0, 0.3)
"""Multiples of a Gauss-Newton step that are tried."""
PROGRESS = 0.99
"""A candidate is given up once a sweep leaves more than this share of its cost."""


@dataclass(frozen=True)
class Block:
    """Linear equations on a vector v with a 1 appended, E [v, 1] = 0."""

    equations: Tensor
    """Coefficients E, orthonormal up to a factor, (m, w + 1); m may be 0."""
    unexplained: Tensor
    """Directions of the update's span that the known records leave over, orthonormal (q, w + 1); q may be 0."""

    def residual(self, vectors: Tensor) -> Tensor:
        """Residuals of the equations (..., m), relative to the length of [v, 1]."""
        return _apply(self.equations, vectors) / _square(vectors).sqrt()[..., None]

    def novelty(self, vectors: Tensor) -> Tensor:
        """Share (...) of the squared length of [v, 1] along the unexplained directions."""
        return _apply(self.unexplained, vectors).square().sum(-1) / _square(vectors)


def _apply(rows: Tensor, vectors: Tensor) -> Tensor:
    return vectors @ rows[:, :-1].T + rows[:, -1]


def _square(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1) + 1


@dataclass(frozen=True)
class Equations:
    """Equations that a record x fulfills, at the inputs and behind the first layer, hidden = act(weight x + bias)."""

    weight: Tensor
    """Weight of the first layer, (h, d)."""
    bias: Tensor
    """Bias of the first layer, (h,)."""
    activation: Activation
    at_inputs: Block
    """Equations on x."""
    at_hidden: Block
    """Equations on the hidden activations."""

    def to(self, dtype: torch.dtype) -> "Equations":
        """The same equations in another precision."""
        blocks = (Block(b.equations.to(dtype), b.unexplained.to(dtype)) for b in (self.at_inputs, self.at_hidden))
        return Equations(self.weight.to(dtype), self.bias.to(dtype), self.activation, *blocks)

    def units(self, records: Tensor) -> Tensor:
        """Pre-activations (..., h) of records (..., d)."""
        return records @ self.weight.T + self.bias

    def hidden(self, records: Tensor, units: Tensor | None = None) -> Tensor:
        """Activations (..., h) of records (..., d), whose pre-activations may be given."""
        return curve(self.activation, self.units(records) if units is None else units)[0]

    def misfit(self, records: Tensor, units: Tensor | None = None) -> Tensor:
        """Squared relative residual (...) of both blocks: 0 in the span, about 1 for a random record."""
        return self._misfit(records, self.hidden(records, units))

    def attraction(self, records: Tensor, units: Tensor | None = None) -> Tensor:
        """The misfit divided by the novelty plus KNOWN (...), so that known records are no minimum of it."""
        hidden = self.hidden(records, units)
        novelty = self.at_inputs.novelty(records) + self.at_hidden.novelty(hidden)
        return self._misfit(records, hidden) / (novelty + KNOWN)

    def _misfit(self, records: Tensor, hidden: Tensor) -> Tensor:
        return self.at_inputs.residual(records).square().sum(-1) + self.at_hidden.residual(hidden).square().sum(-1)


@dataclass(frozen=True)
class InputKinds:
    """Which inputs are numbers, and which form one-hot groups."""

    numbers: Tensor
    """Positions of the inputs that are numbers and not constant, int64 (k,)."""
    low: Tensor
    """Least value of each number, standardized, (k,)."""
    high: Tensor
    """Largest value of each number, standardized, (k,)."""
    groups: tuple[slice, ...]
    """Inputs of each one-hot group of at least two values."""


def input_kinds(schema: Schema | None, width: int) -> InputKinds:
    """The kinds of a schema's inputs; where it is withheld, all `width` inputs are numbers without bounds."""
    if schema is None:
        anything = torch.full((width,), torch.inf)
        return InputKinds(torch.arange(width), -anything, anything, ())
    columns = list(zip(schema.columns, schema.slices, strict=True))
    numbers = [
        (i, (c.low - c.mean) / c.std, (c.high - c.mean) / c.std)
        for c, s in columns
        if not isinstance(c, Categorical) and c.low < c.high
        for i in range(s.start, s.stop)
    ]
    at = torch.tensor([n[0] for n in numbers], dtype=torch.int64)
    low, high = torch.tensor([n[1] for n in numbers]), torch.tensor([n[2] for n in numbers])
    return InputKinds(at, low, high, tuple(s for c, s in columns if isinstance(c, Categorical) and c.width > 1))


def improve(records: Tensor, equations: Equations, shape: InputKinds, sweeps: int, enough: float) -> Tensor:
    """Lower the attraction of records (n, d), each by itself, for at most `sweeps` sweeps; returns new records.

    A record is left as it is once a sweep hardly lowers its cost, or its misfit is at most `enough`.
    """
    records, cost = records.clone(), equations.attraction(records)
    moving = torch.arange(len(records))
    widest = max([s.stop - s.start for s in shape.groups] + [len(shape.numbers), 1])
    per_chunk = max(1, CHUNK // (widest * max(len(equations.bias), records.shape[1])))
    for _ in range(sweeps):
        going_on = []
        for rows in torch.split(moving, per_chunk):
            clock.check()
            moved, reached = _numbers(records[rows], cost[rows], equations, shape, equations.attraction)
            records[rows], new = _best_change(moved, reached, equations, shape)
            going = (new < PROGRESS * cost[rows]) & (equations.misfit(records[rows]) > enough)
            cost[rows] = new
            going_on.append(rows[going])
        moving = torch.cat(going_on)
        if not len(moving):
            break
    return records


def polish(records: Tensor, equations: Equations, shape: InputKinds, steps: int) -> Tensor:
    """Lower the misfit of records (n, d) by changing their numbers only."""
    cost = equations.misfit(records)
    for _ in range(steps):
        clock.check()
        records, cost = _numbers(records, cost, equations, shape, equations.misfit)
    return records


def _numbers(
    records: Tensor, cost: Tensor, equations: Equations, shape: InputKinds, judge: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Two Gauss-Newton steps on the numbers of records (n, d), each tried in two lengths and kept if it lowers `judge`.

    Returns the records and their costs (n,).
    """
    if not len(shape.numbers):
        return records, cost
    low, high = shape.low.to(records.dtype), shape.high.to(records.dtype)
    own = equations.weight[:, shape.numbers].T
    inputs, hidden = equations.at_inputs, equations.at_hidden
    at_inputs = inputs.equations[:, shape.numbers].T
    for _ in range(2):
        after, slope = curve(equations.activation, equations.units(records))
        residual = torch.cat([inputs.residual(records), hidden.residual(after)], 1)
        # the lengths by which residuals are divided count as constant
        first = at_inputs / _square(records).sqrt()[:, None, None]
        second = ((slope[:, None] * own) @ hidden.equations[:, :-1].T) / _square(after).sqrt()[:, None, None]
        jacobian = torch.cat([first, second], 2)
        gram = jacobian @ jacobian.mT
        damping = DAMPING * gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-12)
        gram = gram + damping[:, None, None] * torch.eye(len(own), dtype=records.dtype)
        step = -torch.linalg.solve(gram, jacobian @ residual[:, :, None])[..., 0]
        start = records
        for length in LENGTHS:
            moved = start.clone()
            moved[:, shape.numbers] = (start[:, shape.numbers] + length * step).clamp(low, high)
            reached = judge(moved)
            better = reached < cost
            records = torch.where(better[:, None], moved, records)
            cost = torch.where(better, reached, cost)
    return records, cost


def _best_change(records: Tensor, cost: Tensor, equations: Equations, shape: InputKinds) -> tuple[Tensor, Tensor]:
    """Records (n, d) with the one categorical value changed that lowers each one's cost most, and the costs (n,)."""
    best, changed = cost.clone(), records.clone()
    for group in shape.groups:
        base = records.clone()
        base[:, group] = 0
        size = group.stop - group.start
        options = base[:, None].repeat(1, size, 1)
        options[:, torch.arange(size), torch.arange(group.start, group.stop)] = 1
        units = equations.units(base)[:, None] + equations.weight[:, group].T
        reached, which = equations.attraction(options, units).min(1)
        better = reached < best
        best = torch.where(better, reached, best)
        changed = torch.where(better[:, None], options[torch.arange(len(records)), which], changed)
    return changed, best
