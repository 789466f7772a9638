"""Cells of several rounds over the same records, and the certificate that a cell holds one of them.

A layout of cells is sent twice. The first time the last layer is constant, so that each record's error is a known
number of its class; the second time it reads a random projection of the record, so that the errors point in another
downstream direction. A cell of one record then holds e [x, 1] and e' [x, 1], a matrix of rank 1. Two records give rank
2, unless they are equal or their errors' ratios are: a mixture fails. What is certified is taken out of the cells of
all rounds, which may leave one record alone there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge, Weights
from fedinv.task.schema import Schema

from . import cells, first_layer
from .cells import Grid
from .dictionary import bounds, certified, fresh, snapped
from .features import Features

TIGHT = 4e-3
"""Error of a record that is believed."""
WHOLE = 0.05
"""Distance of a packed code from a whole number up to which it is believed."""
RANK = 2e-3
"""Second singular value of a cell's two sums over the first, up to which their rank is 1."""
COEFFICIENT = 2e-3
"""Relative difference up to which a cell's coefficients are those that the record in it must have."""
PASSES = 60
"""Passes over all cells at most."""
SAME = 0.02
"""Distance in standard deviations, or of a one-hot entry, below which two records are one."""


@dataclass(frozen=True)
class Layout:
    """Cells of two rounds with the same slabs."""

    grid: Grid
    """What the cells hold, with one table."""
    layer: int
    """Hidden layer whose units are the slabs, from 0."""
    sent: tuple[Weights, Weights]
    """Weights of the two rounds, which differ in what is behind the slabs."""
    sums: Tensor
    """Sums of error times [features, 1], float64 (2, c, f + 1)."""

    @property
    def unit(self) -> int:
        """Unit of the first slab, which fires at all records; all slabs have the same weights behind them."""
        return int(self.grid.tables[0].units.start)


@dataclass(frozen=True)
class Found:
    """k certified records with their classes, and what is left of each layout's cells."""

    records: Tensor
    """Records, float64 (k, width)."""
    labels: Tensor
    """Classes, int64 (k,)."""
    rest: tuple[Tensor, ...]
    """Sums that no certified record explains, (2, c + 1, f + 1) of each layout."""


def inputs(schema: Schema) -> Features:
    """Features that are a record's inputs themselves."""
    width = schema.width
    eye = torch.eye(width, dtype=torch.float64)
    return Features(schema, eye, *bounds(schema), (None,) * width, 1.0)


def layout(grid: Grid, layer: int, pair: tuple[Exchange, Exchange], knows: Knowledge) -> Layout:
    """The cells of two rounds with the same slabs."""
    both = []
    for one in pair:
        rows = first_layer.gradient(one, knows.at(one.round), layer)
        if layer == 0:
            own = rows[grid.tables[0].units]
            both.append(torch.cat([own[:-1] - own[1:], own[-1:]]))
        else:
            both.append(cells.sums(grid, -rows[:, :-1], 1.0)[0])
    return Layout(grid, layer, (pair[0].sent, pair[1].sent), torch.stack(both))


def certify(layouts: Sequence[Layout], width: int, classes: int) -> Found:
    """The records that some cell holds alone, once those found before are taken out."""
    rest = [torch.cat([one.sums, torch.zeros_like(one.sums[:, :1])], 1) for one in layouts]
    records, labels = torch.zeros(0, width).double(), torch.zeros(0, dtype=torch.int64)
    for _ in range(PASSES):
        new, of = records[:0], labels[:0]
        for place, one in enumerate(layouts):
            rows, classes_of = _alone(one, rest[place], classes)
            unseen = fresh(rows, torch.cat([records, new]), SAME)
            new, of = torch.cat([new, rows[unseen]]), torch.cat([of, classes_of[unseen]])
        if not len(new):
            break
        for place, one in enumerate(layouts):
            _take_out(one, rest[place], new, of)
        records, labels = torch.cat([records, new]), torch.cat([labels, of])
    return Found(records, labels, tuple(rest))


def unknown(layouts: Sequence[Layout], found: Found, drawn: Tensor) -> Tensor:
    """How many records of those not found yet are like each drawn one (n, width), up to a factor, (n,).

    A cell's size is its sum's, in records; drawn ones in it share it.
    """
    weight = torch.zeros(len(drawn)).double()
    for one, rest in zip(layouts, found.rest, strict=True):
        (at,) = one.grid.cells(drawn)
        size = _size(rest[0]) / _error(one, 0, drawn[:1], 0).abs()
        inside = torch.bincount(at, minlength=len(size)).double().clamp_min(1)
        weight += (size / inside)[at]
    return weight + 1e-3 * weight.mean() + 1e-9


def _size(sums: Tensor) -> Tensor:
    """Size of sums (c, f + 1), which errors of two signs can cancel in their coefficient alone."""
    parts = sums[:, :-1].abs().amax(1) / sums[:, :-1].abs().amax(1).max().clamp_min(1e-30)
    return torch.maximum(sums[:, -1].abs(), parts * sums[:, -1].abs().max())


def _alone(one: Layout, rest: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Records and classes of the cells of which it is certain that one record is in each."""
    grid, schema = one.grid, one.grid.features.schema
    least = 0.5 * min(float(_error(one, 0, torch.zeros(1, schema.width).double(), c).abs()) for c in range(classes))
    at = (rest[0, :-1, -1].abs() > least).nonzero()[:, 0]
    first, second = rest[0, at], rest[1, at]
    records, off = grid.features.decode(first[:, :-1] / first[:, -1:])
    good = certified(schema, records, TIGHT) & (off < WHOLE)
    good &= torch.linalg.svdvals(torch.stack([first, second], 1)) @ torch.tensor([-RANK, 1.0]).double() < 0
    at, records, first, second = at[good], snapped(schema, records[good]), first[good], second[good]
    good = grid.near(records, 0, at)
    labels = torch.full((len(at),), -1)
    for label in range(classes):
        fits = good.clone()
        for turn, sums in enumerate((first, second)):
            fits &= (sums[:, -1] / _error(one, turn, records, label) - 1).abs() < COEFFICIENT
        labels[fits] = label
    good &= labels >= 0
    return records[good], labels[good]


def _take_out(one: Layout, rest: Tensor, records: Tensor, labels: Tensor) -> None:
    """Subtract records from the cells that they are in."""
    told = one.grid.features
    full = torch.cat([records @ told.map.T, torch.ones(len(records), 1)], 1)
    (at,) = one.grid.cells(records)
    for turn in range(2):
        error = torch.zeros(len(records)).double()
        for label in sorted(set(labels.tolist())):
            error = torch.where(labels == label, _error(one, turn, records, label), error)
        rest[turn].index_add_(0, at, -full * error[:, None])


def _error(one: Layout, turn: int, records: Tensor, label: int) -> Tensor:
    """What a record of a class adds to its cell's coefficient in one of the two rounds, (n,)."""
    return first_layer.errors(one.sent[turn], records, label, one.layer)[:, one.unit]
