"""A grid of cells: category blocks in the first layer by slabs in the second, each with a sum of the records in it.

Layer 1 copies a record's features once for each block; a copy is exactly 0 unless the record has the block's
categories: relu(f(x) - low - V (k - matches)) with V beyond the feature's range and k categories to match. Further
units carry projections w_t.x. Layer 2 fires above quantiles of these. Its weights on the copies are 0, so that they
change nothing. Where D is the update of those weights, the row of slab s less that of slab s + 1 is, up to the step's
length, the sum of g(x) [features - low] over the records of the slab in each block: m2 x J cells, in several tables,
each of which has every record in one cell. docs/malicious.md has the derivation.

All layers behind are constant, so that every record of a class sends the same error g, and so small that local steps
hardly change what is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Knowledge, Weights
from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .dictionary import bounds
from .features import Features, features
from .quantiles import direction, quantiles, samples

BEYOND = 1.0
"""How much more than its range a category that does not match takes off a feature, standard deviations."""
COARSE, FINE = 16, 256
"""Codes that categories are packed into: few large steps, which rounding and noise leave apart, or, in narrow layers,
many, with whole numbers of few values among them, so that a copy takes fewer units."""
ROOMY = 12
"""Copies for which a layer must have room to be wide."""
FIRST = 0.618
"""Probability of the first class at every record, at which errors of two classes have no small integer relation."""
DEAD = -1e-6
"""Bias of units that never fire."""
BOTTOM = 8.0
"""Standard deviations below the mean at which a projection begins, unless nobody can be so low."""
EDGE = 1e-4
"""Relative rounding error of a projection, by which a record may be in the slab beside its own."""
OUTSIDE = -1e3
"""Lower end of the first slab."""


@dataclass(frozen=True)
class Scales:
    """Sizes of the crafted weights; what is read does not depend on them, but for rounding and local steps."""

    copies: float
    """Scale of the copies."""
    projections: float
    """Scale of the projections, and of the weights that read them."""
    gain: float
    """Weight of every unit of layer 2 in layer 3."""
    height: float
    """Twice the output of a unit of layer 2 at its knot, where units fire in their slab alone."""
    sparse: bool
    """Whether units of layer 2 fire in their slab alone, as local steps need; each then costs a unit of layer 1."""


ONE_STEP = Scales(copies=1.0, projections=1e-5, gain=1.0, height=0.0, sparse=False)
"""Sizes for a step of length 1; for another one the gain is divided by it, so that a secure sum's integers hold it."""
LOCAL_STEPS = Scales(copies=0.1, projections=0.03, gain=1e-5, height=1e-5, sparse=True)


@dataclass(frozen=True)
class Table:
    """Slabs along one projection."""

    units: slice
    """Units of layer 2."""
    first: int
    """Unit of layer 1 that carries the projection; the first of several where they fire in their slab alone."""
    along: Tensor
    """Direction w, float64 (width,)."""
    edges: Tensor
    """Lower ends of the slabs, rising, (s,)."""
    knots: Tensor
    """Where the projection's units begin, (1,), or the knots of the slabs' hats, (s,)."""


@dataclass(frozen=True)
class Grid:
    """What the cells of crafted weights hold."""

    features: Features
    blocks: tuple[Tensor, ...]
    """Indicator rows (k, width) of categories a block: a record is in the block if it has one of each row."""
    tables: tuple[Table, ...]
    scales: Scales

    def cells(self, records: Tensor) -> list[Tensor]:
        """Cell of each record (n, width) in each table, int64 (n,); those in no block in the cell behind the last."""
        block = torch.full((len(records),), -1)
        for place, rows in enumerate(self.blocks):
            block[(records @ rows.T > 0.5).all(1)] = place
        found = []
        for table in self.tables:
            slab = (torch.bucketize(records @ table.along, table.edges, right=True) - 1).clamp_min(0)
            behind = len(table.edges) * len(self.blocks)
            found.append(torch.where(block < 0, behind, slab * len(self.blocks) + block))
        return found

    def near(self, records: Tensor, table: int, cells: Tensor) -> Tensor:
        """Whether records (n, width) are of these cells (n,) of a table, but for a rounding error, bool (n,)."""
        one = self.tables[table]
        block, slab = cells % len(self.blocks), cells // len(self.blocks)
        inside = torch.stack([(records @ rows.T > 0.5).all(1) for rows in self.blocks], 1)
        along, low = records @ one.along, one.edges[slab]
        high = torch.cat([one.edges[1:], one.edges.new_full((1,), torch.inf)])[slab]
        slack = EDGE * (1 + along.abs())
        return inside.gather(1, block[:, None])[:, 0] & (along > low - slack) & (along < high + slack)


def layout(schema: Schema, widths: tuple[int, int], tables: int, scales: Scales, rows: slice | None = None) -> Grid:
    """The grid on two hidden layers of these widths, without projections, which are drawn by `aimed`.

    `rows` are the units of layer 2 that are used, all without it. Raises ValueError where a layer is too narrow.
    """
    coarse, (first, second) = features(schema, COARSE), widths
    told = coarse if first >= ROOMY * len(coarse.low) else features(schema, FINE, numbers=not scales.sparse)
    count = len(told.low)
    used = rows or slice(0, second)
    room = used.stop - used.start
    if scales.sparse:  # as many cells as possible: slabs, each of which costs a unit of layer 1, times blocks
        most = max(range(1, first // count + 1), key=lambda j: j * min(room, first - j * count), default=0)
        room = min(room, first - most * count)
    else:
        most = (first - tables) // count
    if most < 1 or room < 2 * tables:
        fewest = 2 * tables * (second // max(1, used.stop - used.start))
        raise ValueError(
            f"layers of {first} and {second} units are too narrow: {count + tables} and {fewest} are the fewest"
        )
    parts, size = _blocks(schema, most), room // tables
    base = len(parts) * count
    empty = torch.zeros(0, dtype=torch.float64)
    found = tuple(
        Table(
            slice(used.start + place * size, used.start + (place + 1) * size),
            base + place * (size if scales.sparse else 1),
            empty,
            empty,
            empty,
        )
        for place in range(tables)
    )
    return Grid(told, parts, found, scales)


def aimed(grid: Grid, knows: Knowledge, rng: np.random.Generator) -> Grid:
    """The grid with a random projection for each table, and slabs that hold about equally many records."""
    schema = grid.features.schema
    drawn, (low, high), found = samples(schema, knows, rng), bounds(schema), list[Table]()
    for table in grid.tables:
        size, along = table.units.stop - table.units.start, direction(schema, rng)
        seen = drawn @ along
        if grid.scales.sparse:
            knots = quantiles(seen, (np.arange(size) + 0.5) / size)
            edges = torch.cat([torch.tensor([OUTSIDE]).double(), (knots[1:] + knots[:-1]) / 2])
        else:
            edges = quantiles(seen, np.arange(size) / size)
            edges[0] = OUTSIDE
            floor = float(torch.minimum(along * low, along * high).sum()) - 0.1
            knots = torch.tensor([max(floor, float(seen.mean() - BOTTOM * seen.std()))]).double()
        found.append(replace(table, along=along, edges=edges, knots=knots))
    return replace(grid, tables=tuple(found))


def weights(grid: Grid, like: Weights) -> dict[str, Tensor]:
    """The grid as weights of a perceptron with two hidden layers; units that are not used never fire."""
    made = {name: torch.zeros_like(tensor) for name, tensor in like.items()}
    w1, b1, w2, b2, w3, b3 = made.values()
    b1.fill_(DEAD)
    b2.fill_(DEAD)
    told, scales = grid.features, grid.scales
    count, blocked = len(told.low), told.high - told.low + BEYOND
    for place, rows in enumerate(grid.blocks):
        at = slice(place * count, (place + 1) * count)
        w1[at] = (scales.copies * (told.map + blocked[:, None] * rows.sum(0))).float()
        b1[at] = (-scales.copies * (told.low + blocked * len(rows))).float()
    for table in grid.tables:
        (_hats if scales.sparse else _steps)(table, scales, (w1, b1, w2, b2))
    w3[0], w3[1] = -scales.gain, scales.gain
    b3[0] = float(np.log(FIRST / (1 - FIRST) * (len(b3) - 1)))
    return made


def read_grid(grid: Grid, sent: Weights) -> Grid:
    """The grid with the projections and slabs that weights hold, up to their rounding."""
    w1, b1, _, b2, *_ = (tensor.double() for tensor in sent.values())
    scale, found = grid.scales.projections, list[Table]()
    for table in grid.tables:
        size = table.units.stop - table.units.start
        along = w1[table.first] / scale
        if grid.scales.sparse:
            knots = -b1[table.first : table.first + size] / scale
            edges = torch.cat([torch.tensor([OUTSIDE]).double(), (knots[1:] + knots[:-1]) / 2])
        else:
            knots = -b1[table.first : table.first + 1] / scale
            edges = knots - b2[table.units] / scale**2
            edges[0] = OUTSIDE
        found.append(replace(table, along=along, edges=edges, knots=knots))
    return replace(grid, tables=tuple(found))


def sums(grid: Grid, update: Tensor, lr: float) -> list[Tensor]:
    """The cells of each table (s x J, f + 1) by the update (m2, m1) of layer 2: sums of g [features, 1].

    With a learning rate of 1 they are up to the length of the step.
    """
    rows, count = update.double() / (-lr * grid.scales.copies), len(grid.features.low)
    found = []
    for table in grid.tables:
        own = rows[table.units]
        if not grid.scales.sparse:
            own = torch.cat([own[:-1] - own[1:], own[-1:]])
        cells = own[:, : len(grid.blocks) * count].reshape(-1, count)
        g = cells[:, -1:] / grid.features.unit
        found.append(torch.cat([cells + g * grid.features.low, g], 1))
    return found


def errors(grid: Grid, sent: Weights, records: int) -> Tensor:
    """Error g that a record of each class sends to units of layer 2 that fire, as a mean over so many records has it.

    The logits are the last bias at every record.
    """
    *_, w3, b3 = (tensor.double() for tensor in sent.values())
    column = w3[:, grid.tables[0].units.start]
    return (torch.softmax(b3, 0) @ column - column) / records


def _steps(table: Table, scales: Scales, into: Sequence[Tensor]) -> None:
    """One unit of layer 1 that carries the projection, and units of layer 2 that fire above each slab's lower end."""
    w1, b1, w2, b2 = into
    scale = scales.projections
    w1[table.first] = (scale * table.along).float()
    b1[table.first] = -scale * float(table.knots)
    w2[table.units, table.first] = scale
    b2[table.units] = (-(scale**2) * (table.edges - table.knots)).float()
    b2[table.units.start] = scale**2


def _hats(table: Table, scales: Scales, into: Sequence[Tensor]) -> None:
    """Units of layer 1 that begin at the knots, and of layer 2 with hats: 1 at their knot, 0 at the next, less 1/2."""
    w1, b1, w2, b2 = into
    size, at = len(table.knots), torch.arange(len(table.knots))
    units = slice(table.first, table.first + size)
    w1[units] = (scales.projections * table.along).float()
    b1[units] = (-scales.projections * table.knots).float()
    slope = scales.height / scales.projections / (table.knots[1:] - table.knots[:-1])
    left, right = torch.cat([slope.new_zeros(1), slope]), torch.cat([slope, slope.new_zeros(1)])
    hats = slope.new_zeros(size, size)
    hats[at, at] = -(left + right)
    hats[at[1:], at[:-1]] = slope
    hats[at[:-1], at[1:]] = slope
    hats[0, 0], hats[-1, -1] = -slope[0], -slope[-1]
    w2[table.units, units] = hats.float()
    b2[table.units] = -scales.height / 2
    b2[table.units.start] = scales.height / 2


def _blocks(schema: Schema, most: int) -> tuple[Tensor, ...]:
    """Blocks of values of that pair of categorical columns which spreads people most evenly, `most` blocks at most."""
    columns = [(c, s) for c, s in zip(schema.columns, schema.slices, strict=True) if isinstance(c, Categorical)]
    best = np.inf
    found: tuple[Tensor, ...] = (torch.zeros(0, schema.width, dtype=torch.float64),)
    for (one, at), (other, beside) in combinations(columns, 2) if most > 1 else ():
        for i in range(1, min(one.width, most) + 1):
            shares, sets = _split(one, i)
            more, others = _split(other, min(other.width, most // i))
            uneven = float((np.outer(shares, more) ** 2).sum())
            if uneven < best:
                best = uneven
                found = tuple(
                    torch.stack([_indicator(schema, at, a), _indicator(schema, beside, b)])
                    for a in sets
                    for b in others
                )
    return found


def _split(column: Categorical, count: int) -> tuple[np.ndarray, list[list[int]]]:
    """A column's values in so many sets of about the same share of the population, with the shares."""
    shares, sets = np.zeros(count), [list[int]() for _ in range(count)]
    for value in np.argsort(-np.asarray(column.frequencies), kind="stable"):
        least = int(shares.argmin())
        shares[least] += column.frequencies[value]
        sets[least].append(int(value))
    return shares, sets


def _indicator(schema: Schema, where: slice, values: list[int]) -> Tensor:
    row = torch.zeros(schema.width, dtype=torch.float64)
    row[[where.start + value for value in values]] = 1.0
    return row
