"""Looks for records one by one: discrete columns by the best single change, numbers by Gauss-Newton."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from ..activations import Activation, curve

KNOWN = 0.01
"""Novelty that even a known record is granted: less would drive the search apart from what it looks for."""
CHUNK = 2**24
"""Numbers that one evaluation may hold per intermediate."""
DAMPING = 1e-6
"""Levenberg's term, in shares of the mean square slope."""
LENGTHS = (1.0, 0.3)
"""Shares of a Gauss-Newton step that are tried."""
PROGRESS = 0.99
"""A candidate is stuck once a sweep leaves more than this share of its misfit."""


@dataclass(frozen=True)
class Block:
    """Linear equations on a vector with a 1 behind it, E [v, 1] = 0."""

    equations: Tensor
    """(m, w + 1), m may be 0."""
    fresh: Tensor
    """(q, w + 1), orthonormal: directions in which the vectors of the records still wanted differ from known ones."""

    def residual(self, vectors: Tensor) -> Tensor:
        """What is left of the equations (..., m), relative to the length of [v, 1]."""
        return _apply(self.equations, vectors) / _square(vectors).sqrt()[..., None]

    def novelty(self, vectors: Tensor) -> Tensor:
        """Share (...) of the squared length of [v, 1] in the fresh directions."""
        return _apply(self.fresh, vectors).square().sum(-1) / _square(vectors)


def _apply(rows: Tensor, vectors: Tensor) -> Tensor:
    return vectors @ rows[:, :-1].T + rows[:, -1]


def _square(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1) + 1


@dataclass(frozen=True)
class Equations:
    """What a record x fulfills at the inputs and behind the first layer: at hidden = act(weight x + bias)."""

    weight: Tensor
    """(h, d)"""
    bias: Tensor
    """(h,)"""
    activation: Activation
    at_inputs: Block
    at_hidden: Block

    def to(self, dtype: torch.dtype) -> "Equations":
        """The same in another precision."""
        blocks = (Block(b.equations.to(dtype), b.fresh.to(dtype)) for b in (self.at_inputs, self.at_hidden))
        return Equations(self.weight.to(dtype), self.bias.to(dtype), self.activation, *blocks)

    def units(self, records: Tensor) -> Tensor:
        """Pre-activations (..., h) of records (..., d)."""
        return records @ self.weight.T + self.bias

    def hidden(self, records: Tensor, units: Tensor | None = None) -> Tensor:
        """Activations (..., h) of records (..., d), whose pre-activations may be given."""
        return curve(self.activation, self.units(records) if units is None else units)[0]

    def misfit(self, records: Tensor, units: Tensor | None = None) -> Tensor:
        """Squared relative residual (...): 0 in the span, about 1 off it."""
        return self._misfit(records, self.hidden(records, units))

    def attraction(self, records: Tensor, units: Tensor | None = None) -> Tensor:
        """The misfit over the share of what is new, so that records already known are no minimum any more."""
        hidden = self.hidden(records, units)
        novelty = self.at_inputs.novelty(records) + self.at_hidden.novelty(hidden)
        return self._misfit(records, hidden) / (novelty + KNOWN)

    def _misfit(self, records: Tensor, hidden: Tensor) -> Tensor:
        return self.at_inputs.residual(records).square().sum(-1) + self.at_hidden.residual(hidden).square().sum(-1)


@dataclass(frozen=True)
class InputKinds:
    """Which inputs are numbers, and which make up one-hot groups."""

    numbers: Tensor
    """int64 (k,), inputs of continuous columns that vary."""
    low: Tensor
    high: Tensor
    """(k,), standardized."""
    groups: tuple[slice, ...]


def input_kinds(schema: Schema | None, width: int) -> InputKinds:
    """Which inputs of a schema's records are which; where it is withheld, of `width` numbers of any size."""
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
    """Improve records (n, d) one by one, until none gets better or their misfit is below `enough`."""
    records, cost = records.clone(), equations.attraction(records)
    moving = torch.arange(len(records))
    widest = max([s.stop - s.start for s in shape.groups] + [len(shape.numbers), 1])
    per_chunk = max(1, CHUNK // (widest * max(len(equations.bias), records.shape[1])))
    for _ in range(sweeps):
        still = []
        for rows in torch.split(moving, per_chunk):
            moved, reached = _numbers(records[rows], cost[rows], equations, shape, equations.attraction)
            records[rows], new = _best_change(moved, reached, equations, shape)
            going = (new < PROGRESS * cost[rows]) & (equations.misfit(records[rows]) > enough)
            cost[rows] = new
            still.append(rows[going])
        moving = torch.cat(still)
        if not len(moving):
            break
    return records


def polish(records: Tensor, equations: Equations, shape: InputKinds, steps: int) -> Tensor:
    """Improve only the numbers of records (n, d), and by their misfit alone."""
    cost = equations.misfit(records)
    for _ in range(steps):
        records, cost = _numbers(records, cost, equations, shape, equations.misfit)
    return records


def _numbers(
    records: Tensor, cost: Tensor, equations: Equations, shape: InputKinds, judge: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Two Gauss-Newton steps on the continuous columns, each taken as far as it helps."""
    if not len(shape.numbers):
        return records, cost
    low, high = shape.low.to(records.dtype), shape.high.to(records.dtype)
    own = equations.weight[:, shape.numbers].T
    inputs, hidden = equations.at_inputs, equations.at_hidden
    at_inputs = inputs.equations[:, shape.numbers].T
    for _ in range(2):
        after, slope = curve(equations.activation, equations.units(records))
        residual = torch.cat([inputs.residual(records), hidden.residual(after)], 1)
        # the lengths that residuals are relative to are taken as constant
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
    """Each record with the one value of one categorical column changed that lowers its cost most."""
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
