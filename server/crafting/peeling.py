"""Lists the records behind cells that hold sums of them, as an invertible Bloom lookup table is listed.

A cell that holds one record alone gives it, as sum and coefficient are both known: g [x, 1]. What is found is taken out
of its cell in every other table, which may leave one record alone there, and so on (Goodrich and Mitzenmacher 2011,
section 3, for keys). A cell is believed only where the public dictionary certifies the record: a mixture of two has
fractions in each category or whole number in which they differ. After a single step a record's coefficient is one of a
few numbers that the server can compute; after local steps coefficients differ a little between tables, so those of a
cell's known records are fitted to it, by the features that are known exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cells import Grid
from .dictionary import certified, fresh, snapped

LOOSE = 0.15
"""Error of a record that may stand in a cell with others before their coefficients are fitted."""
TIGHT = 4e-3
"""Error of a record that is believed."""
WHOLE = 0.05
"""Distance of a packed code from a whole number up to which it is believed."""
ROUNDS = 100
"""Passes over all cells at most."""
SPARE = 4
"""Equations that a cell has beyond its unknown coefficients at least."""
UNUSUAL = 1.5
"""Factor by which a record's error may differ from the others of its class; they differ by 8 % after five epochs."""
UNEQUAL = 1.05
"""The same after a single step, where errors of a class are equal but for rounding and a secure sum's quantization."""
SAME = 0.01
"""Largest difference of two inputs, in standard deviations, at which two records are one."""


@dataclass(frozen=True)
class Listed:
    """k records with the error that each sent."""

    records: Tensor
    """Records, float64 (k, width)."""
    errors: Tensor
    """Coefficient g of each, (k,), in the unit of the cells."""


@dataclass
class _State:
    """What a listing knows: the cells as they came, what is left of them, and which records are in which."""

    raw: list[Tensor]
    rest: list[Tensor]
    members: list[dict[int, list[int]]]
    tried: list[dict[int, int]]
    records: Tensor
    errors: Tensor
    known: Tensor

    def nearest(self, errors: Tensor) -> Tensor:
        """The known error of a class in place of each of (n,), where one is near."""
        if not len(self.known) or not len(errors):
            return errors
        off = (errors[:, None] / self.known - 1).abs()
        return torch.where(off.amin(1) < UNEQUAL - 1, self.known[off.argmin(1)], errors)

    def usual(self, errors: Tensor, factor: float) -> Tensor:
        """Whether errors (n,) are, up to a factor, as large as the others of their sign, bool (n,).

        Records of a class send the same error, so that a mixture of several is found out by its own. The others are
        those of the known records; as long as there are none, of those that are asked about.
        """
        good = torch.ones_like(errors, dtype=torch.bool)
        for sign in (1.0, -1.0):
            mine = errors * sign > 0
            known = self.errors[self.errors * sign > 0]
            others = (known if len(known) else errors[mine]).abs()
            if len(others):
                ratio = errors.abs() / others.median()
                good &= ~mine | ((ratio < factor) & (ratio > 1 / factor))
        return good


def peel(grid: Grid, cells: Sequence[Tensor], known: Tensor | None = None) -> Listed:
    """The records behind cells (c, f + 1), one tensor a table: sums of g [features, 1] over the records in the cell.

    `known` are the errors g that a record can send, one a class, where they follow from the weights that were sent;
    None where they do not. They are far more accurate than a cell's own, which is the sum of a small constant feature.
    """
    # one cell more a table for records that are in none
    raw = [torch.cat([one, torch.zeros_like(one[:1])]) for one in cells]
    none = raw[0].new_zeros(0)
    state = _State(
        raw,
        [one.clone() for one in raw],
        [{} for _ in raw],
        [{} for _ in raw],
        none.reshape(0, grid.features.schema.width),
        none,
        none if known is None else known,
    )
    floor = _floor(cells)
    for _ in range(ROUNDS if floor > 0 else 0):
        rows, errors = _found(grid, state, floor)
        if not len(rows):
            break
        _take_out(grid, state, rows, errors)
    return Listed(state.records, state.errors)


def _floor(cells: Sequence[Tensor]) -> float:
    """Coefficient below which a cell counts as empty: a fifth of a small one of those that are not; 0 where all are."""
    sizes = torch.cat([one[:, -1] for one in cells]).abs()
    if not bool((sizes > 0).any()):
        return 0.0
    top = float(sizes.kthvalue(max(1, int(0.98 * len(sizes)))).values) or float(sizes.max())
    return 0.2 * float(sizes[sizes > 0.05 * top].quantile(0.1))


def _found(grid: Grid, state: _State, floor: float) -> tuple[Tensor, Tensor]:
    """Records that some cell holds beside those known in it, with their coefficients; none twice."""
    schema, rows, errors = grid.features.schema, list[Tensor](), list[Tensor]()
    factor = UNUSUAL if grid.scales.sparse else UNEQUAL

    def take(records: Tensor, coefficients: Tensor) -> None:
        new = fresh(records, torch.cat([state.records, *rows]), SAME)
        rows.append(records[new])
        errors.append(coefficients[new])

    for table, rest in enumerate(state.rest):
        members, tried = state.members[table], state.tried[table]
        at = (rest[:, -1].abs() > floor).nonzero()[:, 0]
        at = at[[tried.get(cell, -1) != len(members.get(cell, ())) for cell in at.tolist()]]
        tried.update({cell: len(members.get(cell, ())) for cell in at.tolist()})
        own = state.nearest(rest[at, -1])
        # cells hold g low besides, with the g of their own
        shift = (own - rest[at, -1])[:, None] * grid.features.low
        records, off = grid.features.decode((rest[at, :-1] + shift) / own[:, None])
        shared = torch.tensor([cell in members for cell in at.tolist()], dtype=torch.bool)
        # after one step the known records' errors are exact, so that what is left of a cell is as good as a whole one
        single = ~shared if grid.scales.sparse else torch.ones_like(shared)
        alone = single & certified(schema, records, TIGHT) & (off < WHOLE)
        # a record that is not of this cell is a mixture that looks like one
        alone &= grid.near(snapped(schema, records), table, at)
        alone[alone.clone()] = state.usual(own[alone], factor)
        take(snapped(schema, records[alone]), own[alone])
        beside = ~single & certified(schema, records, LOOSE) & (off < LOOSE)
        for cell, record in zip(at[beside].tolist(), snapped(schema, records[beside]), strict=True):
            settled = _settled(grid, state.raw[table][cell], state.records[members[cell]], record, floor)
            if settled is not None and int(grid.cells(settled[0])[table]) == cell and state.usual(settled[1], factor):
                take(*settled)
    return torch.cat([state.records[:0], *rows]), torch.cat([state.errors[:0], *errors])


def _settled(grid: Grid, cell: Tensor, others: Tensor, new: Tensor, floor: float) -> tuple[Tensor, Tensor] | None:
    """A new record (1, width) of a cell in which others are known, with its coefficient (1,); None if nothing fits."""
    told = grid.features
    discrete = told.discrete
    if len(others) > len(discrete) - SPARE:
        return None
    rows = torch.cat([others, new[None]]) @ told.map.T
    system = torch.cat([rows[:, discrete], torch.ones(len(rows), 1)], 1).T
    target = torch.cat([cell[discrete], cell[-1:]])
    errors = torch.linalg.pinv(system, rtol=1e-9) @ target
    if not bool(errors.isfinite().all()) or float(errors[-1].abs()) < floor:
        return None
    if float((system @ errors - target).abs().max()) > TIGHT * float(errors[-1].abs()) * float(system.abs().max()):
        return None
    left = cell[:-1] - (errors[:-1, None] * rows[:-1]).sum(0)
    record, off = told.decode(left[None] / errors[-1])
    if not bool(certified(told.schema, record, TIGHT)[0]) or float(off[0]) > WHOLE:
        return None
    return snapped(told.schema, record), errors[-1:]


def _take_out(grid: Grid, state: _State, rows: Tensor, errors: Tensor) -> None:
    """Add records to the known ones, and take them out of their cells."""
    before = len(state.records)
    state.records, state.errors = torch.cat([state.records, rows]), torch.cat([state.errors, errors])
    whole = torch.cat([rows @ grid.features.map.T, torch.ones(len(rows), 1)], 1) * errors[:, None]
    for table, at in enumerate(grid.cells(rows)):
        state.rest[table].index_add_(0, at, -whole)
        for place, cell in enumerate(at.tolist()):
            state.members[table].setdefault(cell, []).append(before + place)
