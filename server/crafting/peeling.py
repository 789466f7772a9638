"""Lists the records behind cells that hold sums of them, as an invertible Bloom lookup table is listed.

A cell that holds one record alone gives it, as sum and coefficient are both known: g [x, 1]. What is found is taken out
of its cell in every other table, which may leave one record alone there, and so on (Goodrich and Mitzenmacher 2011,
section 3, for keys). A cell is believed only where the public dictionary certifies the record: a mixture of two has
fractions in each category or whole number in which they differ. After a single step a record's coefficient is one of a
few numbers that the server can compute; after local steps coefficients differ a little between tables, and the ends of
slabs have moved, so that a record near one is in two cells in part. A cell is then taken for a sum of its known records
and of those near its ends, with coefficients that are not known: those of up to three follow from the features in which
a further record can only have whole numbers, and all are fitted to the cell before that record is believed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from .cells import Grid
from .dictionary import certified, fresh, snapped
from .features import Features

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
EMPTY = 0.02
"""Share of a record's error below which a cell counts as without it."""
LEAST = 0.1
"""Least share of its error that a record near an end of a slab is read by."""
MOST = 4096
"""Combinations of codes that are tried of a new record, at most."""
DRIFT = 0.25
"""Share by which a record's error may differ between tables."""
FREE = 3
"""Known records of a cell whose coefficients are taken for unknown when another is looked for, at most."""
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
    """What a listing knows: cells as they came, what is left of them, and the known records in each, and beside it."""

    raw: list[Tensor]
    rest: list[Tensor]
    members: list[dict[int, list[int]]]
    beside: list[dict[int, list[int]]]
    shared: list[list[bool]]
    tried: list[dict[int, int]]
    records: Tensor
    errors: Tensor
    known: Tensor

    def typical(self, errors: Tensor) -> Tensor:
        """The median error of the known records of the same sign in place of each of (n,); 0 where there is none."""
        found = torch.zeros_like(errors)
        for sign in (1.0, -1.0):
            known = self.errors[self.errors * sign > 0]
            if len(known):
                found[errors * sign > 0] = known.median()
        return found

    def known_in(self, table: int, cell: int) -> int:
        """Number of known records in a cell or beside it."""
        return len(self.members[table].get(cell, ())) + len(self.beside[table].get(cell, ()))

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
        [[] for _ in raw],
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
        tried = state.tried[table]
        at = (rest[:, -1].abs() > floor).nonzero()[:, 0]
        at = at[[tried.get(cell, -1) != state.known_in(table, cell) for cell in at.tolist()]]
        tried.update({cell: state.known_in(table, cell) for cell in at.tolist()})
        own = state.nearest(rest[at, -1])
        # cells hold g low besides, with the g of their own
        shift = (own - rest[at, -1])[:, None] * grid.features.low
        records, off = grid.features.decode((rest[at, :-1] + shift) / own[:, None])
        shared = torch.tensor([state.known_in(table, cell) > 0 for cell in at.tolist()], dtype=torch.bool)
        # after one step the known records' errors are exact, so that what is left of a cell is as good as a whole one
        single = ~shared if grid.scales.sparse else torch.ones_like(shared)
        alone = single & certified(schema, records, TIGHT) & (off < WHOLE)
        # a record that is not of this cell is a mixture that looks like one
        if not grid.scales.sparse:
            alone &= grid.near(snapped(schema, records), table, at)
            alone[alone.clone()] = state.usual(own[alone], factor)
            take(snapped(schema, records[alone]), own[alone])
        else:
            take(*_placed(grid, state, snapped(schema, records[alone]), own[alone], table, at[alone]))
        settled = set[int]()
        for cell, record in _likely(grid, state, table, at[~single].tolist()):
            if cell in settled:
                continue
            known = [*state.members[table].get(cell, ()), *state.beside[table].get(cell, ())]
            parts = torch.tensor([state.shared[table][one] for one in known])
            others = Listed(state.records[known], state.errors[known])
            one = _settled(grid, state.raw[table][cell], others, parts, record, floor)
            placed = None if one is None else _placed(grid, state, *one, table, torch.tensor([cell]))
            if placed is not None and len(placed[0]):
                take(*placed)
                settled.add(cell)
    return torch.cat([state.records[:0], *rows]), torch.cat([state.errors[:0], *errors])


def _placed(
    grid: Grid, state: _State, records: Tensor, errors: Tensor, table: int, at: Tensor
) -> tuple[Tensor, Tensor]:
    """Those of records (k, width), with errors (k,), that may be read in these cells (k,) of a table.

    They lie in it, or in part near an end of its slab; what they send where they are whole is then that of the others.
    In every other table in which they are whole, their cell is not empty.
    """
    cells, beside = grid.cells(records), grid.beside(records)
    part = (beside[table] >= 0) & ((cells[table] == at) | (beside[table] == at))
    typical = state.typical(errors)
    share = errors / typical
    partly = part & (typical != 0) & (share > LEAST) & (share < UNUSUAL)
    good = partly | ((cells[table] == at) & ~part & state.usual(errors, UNUSUAL))
    for raw, own, aside in zip(state.raw, cells, beside, strict=True):
        good &= (aside >= 0) | (raw[own, -1].abs() > EMPTY * errors.abs())
    return records[good], torch.where(partly, typical, errors)[good]


def _likely(grid: Grid, state: _State, table: int, at: Sequence[int]) -> list[tuple[int, Tensor]]:
    """Cells with a record (width,) that may stand in each beside the known ones, whatever coefficients these have.

    Those of FREE of them, at most, follow from the codes that the new one may have in as many features, which are whole
    numbers. All of a cell's are sought where they are so few, else those of the known records near an end of its slab.
    """
    told, rows = grid.features, torch.cat([state.records @ grid.features.map.T, torch.ones(len(state.records), 1)], 1)
    coded = [place for place, pack in enumerate(told.packs) if pack]
    cells, found = list[int](), list[Tensor]()
    for cell in at:
        inside, beside = state.members[table].get(cell, []), state.beside[table].get(cell, [])
        parts = [one for one in inside if state.shared[table][one]]
        free = next((one for one in ([*inside, *beside], [*parts, *beside]) if len(one) <= FREE), [])
        fixed = [one for one in inside if one not in free]
        raw = state.raw[table][cell] - state.errors[fixed] @ rows[fixed]
        others, seen = rows[free], [*coded, -1]
        shares = torch.cat([state.errors[free][None], *(_shares(raw, others, told, s) for s in _codes(told, free))])
        left = raw[seen] - shares @ others[:, seen]
        codes = left[:, :-1] / (left[:, -1:] * told.unit)
        whole = ((codes - codes.round()).abs() < LOOSE).all(1) & (codes > -LOOSE).all(1)
        cells += [cell] * int(whole.sum())
        found.append(raw - shares[whole] @ others)
    if not cells:
        return []
    left = torch.cat(found)
    records, off = told.decode(left[:, :-1] / left[:, -1:])
    good = certified(told.schema, records, LOOSE) & (off < LOOSE)
    pairs = torch.cat([torch.tensor(cells).double()[good, None], snapped(told.schema, records[good])], 1)
    return [(int(one[0]), one[1:]) for one in torch.unique(pairs, dim=0)]


def _codes(told: Features, free: Sequence[int]) -> list[list[int]]:
    """Sets of as many features that are codes as there are coefficients to find; none where there are none."""
    codes, count = [at for at, pack in enumerate(told.packs) if pack], len(free)
    sets = [codes[start : start + count] for start in range(0, len(codes) - count + 1, count)] if count else []
    return [one for one in sets if prod(_size(told, at) for at in one) <= MOST]


def _size(told: Features, at: int) -> int:
    """Number of codes of a feature."""
    return prod(digit.size for digit in told.packs[at] or ())


def _shares(left: Tensor, held: Tensor, told: Features, at: Sequence[int]) -> Tensor:
    """Coefficients (n, k) of records held (k, f + 1) in a cell (f + 1,), for all codes of another one in k features."""
    codes = (
        torch.cartesian_prod(*[torch.arange(_size(told, one)).double() for one in at]).reshape(-1, len(at)) * told.unit
    )
    system = held[:, at].T[None] - codes[:, :, None] * held[:, -1]
    target = left[at] - codes * left[-1]
    good = torch.linalg.det(system).abs() > 1e-6
    found: Tensor = torch.linalg.solve(system[good], target[good])
    return found


def _settled(
    grid: Grid, cell: Tensor, known: Listed, parts: Tensor, new: Tensor, floor: float
) -> tuple[Tensor, Tensor] | None:
    """A new record (1, width) of a cell in which others are known, with its coefficient (1,); None if nothing fits."""
    told, others = grid.features, known.records
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
    shares = errors[:-1] / known.errors
    if bool(((shares > 1 + DRIFT) | (shares < torch.where(parts, -DRIFT, 1 - DRIFT))).any()):
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
    near = grid.beside(rows) if grid.scales.sparse else [torch.full((len(rows),), -1) for _ in state.rest]
    for table, (at, aside) in enumerate(zip(grid.cells(rows), near, strict=True)):
        state.rest[table].index_add_(0, at, -whole)
        state.shared[table] += (aside >= 0).tolist()
        for place, cell in enumerate(aside.tolist()):
            if cell >= 0:
                state.beside[table].setdefault(cell, []).append(before + place)
        for place, cell in enumerate(at.tolist()):
            state.members[table].setdefault(cell, []).append(before + place)
