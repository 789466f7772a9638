"""A second look at records that single units gave away: through the network that was sent, in all rounds at once.

A record that was read off one row predicts all others: in which rounds it begins to fire which units, and by how much
their rows then change, as its class's error and its outputs of the first layer are known. A record is certified where
the network reproduces such a change, and where its numbers are the same in readings of several rows, or follow from one
row to far more digits than are claimed. Its numbers are solved for again with the categories fixed, of which least
squares over the hundreds of outputs of the first layer leave a few unknowns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .dictionary import whole
from .flips import FIRING, Listed, Rounds, changes, listed

REMAINDER = 0.01
"""Share of its change that a record may leave of a row, where it is alone there."""
DIGITS = 1e-3
"""Largest error of the numbers of a certified record, in standard deviations."""
MARGIN = 25.0
"""Largest error of numbers by one row, in standard errors of least squares: what is left of the smooth change is no
white noise."""
SPREAD = 2.0
"""The same of numbers by several rows, in units of the farthest of these from their mean."""
AGAIN = 3
"""Times at most that all numbers are solved for again, each with better ones taken out."""


@dataclass(frozen=True)
class Reading:
    """Numbers of a record."""

    values: Tensor
    """Values of the inputs that are not discrete, (c,)."""
    blur: float
    """Largest error that is to be expected of them, in standard deviations; infinite where no row is reproduced."""


def read(seen: Rounds, schema: Schema) -> tuple[Listed, Tensor]:
    """The k records behind the changes between rounds, and which are certified, bool (k,)."""
    found = listed(seen, schema)
    for _ in range(AGAIN):  # with better numbers taken out of them, rows show others
        better, _ = solved_again(seen, found, schema)
        found = listed(seen, schema, better)
        if len(found.records) == len(better.records):
            break
    return solved_again(seen, found, schema)


def solved_again(seen: Rounds, found: Listed, schema: Schema) -> tuple[Listed, Tensor]:
    """The records (k, width) with their numbers solved for again, and which are certified, bool (k,)."""
    columns, records = numbers(schema), found.records.clone()
    sure = torch.zeros(len(records), dtype=torch.bool)
    places = found.known.nonzero()[:, 0].tolist()
    left, own = changes(seen, found)
    outputs, steps = seen.outputs(records[places]), own[1:] - own[:-1]
    begins = (own[1:] != 0) != (own[:-1] != 0)
    for known, place in enumerate(places):
        round_, unit = begins[:, known].nonzero().T
        step = steps[round_, known, unit]
        rest = left[round_, unit] / step[:, None]
        reproduced = rest.norm(dim=1) < REMAINDER * outputs[known].norm()
        if bool(reproduced.any()):
            one = _reading(seen, records[place], columns, outputs[known] + rest[reproduced], step[reproduced] ** 2)
            records[place, columns], sure[place] = one.values, one.blur < DIGITS
    return Listed(records, found.labels, found.known), sure


def numbers(schema: Schema) -> Tensor:
    """Positions of the inputs that are no discrete values, int64."""
    free = torch.ones(schema.width, dtype=torch.bool)
    for column, where in zip(schema.columns, schema.slices, strict=True):
        free[where] = not (isinstance(column, Categorical) or whole(column))
    return free.nonzero()[:, 0]


def _reading(seen: Rounds, record: Tensor, columns: Tensor, rows: Tensor, weights: Tensor) -> Reading:
    """A record's numbers by rows (m, inputs + 1) of [h1(x), 1] that it has alone, weighted by (m,)."""
    weight, bias, *_ = seen.sent
    fires = rows[0, :-1] > FIRING * rows[0, :-1].max()
    discrete = record.clone()
    discrete[columns] = 0.0
    # rows hold s [h1(x), 1], with s near 1: linear in s and in s times the numbers
    system = torch.cat([weight[fires][:, columns], (weight[fires] @ discrete + bias[fires])[:, None]], 1)
    system = torch.cat([system, torch.eye(system.shape[1])[-1:].double()])
    told = torch.cat([rows[:, :-1][:, fires], rows[:, -1:]], 1)
    if len(system) <= system.shape[1]:
        return Reading(record[columns], torch.inf)
    inverse = torch.linalg.pinv(system)
    mean = (weights @ told) / weights.sum()
    solved, each = inverse @ mean, told @ inverse.T
    values = solved[:-1] / solved[-1]
    off = (system @ solved - mean).norm() / (len(system) - system.shape[1]) ** 0.5
    blur = MARGIN * float(off * inverse[:-1].norm(dim=1).max()) if len(columns) else 0.0
    if len(rows) > 1 and len(columns):
        blur = SPREAD * float((each[:, :-1] / each[:, -1:] - values).abs().max())
    return Reading(values, blur)
