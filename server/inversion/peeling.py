"""Takes whole records out of a first layer's update, a few at a time, each checked before it is believed.

With C (h, r) the records' back-propagated signals and X (r, d + 1) the records with a 1 for the bias, the update is
C X. Any basis Q of its column space gives rows Q^-1 (C X); where Q's columns are signals, the rows are records up to
scale. A column that is no signal but a mixture of some spoils the rows of the others in that mixture and no more, so
the rows that pass the checks are kept, taken out of the row space, and the search goes on in the smaller rest.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Progress
from fedinv.schema import Schema

from .first_layer import Factors, FirstLayer
from .sparse import sparse_directions, sparsest
from .validity import SLACK, activity, fault, snap

SURPLUS = 4
"""Inactive units that a record must have beyond those that any direction could be made to vanish on."""
TRIMS = 3
"""Times a signal is fitted, each time without the units that did not follow it."""
SETTLE = 4
"""Times that all records are solved for again, each with the others' signals as they are then known."""
SELECTIONS = 6
"""Sets of directions that are tried in a round."""


@dataclass(frozen=True)
class Search:
    """How long to look."""

    restarts: int
    """Starting points for each record not yet found, in the first round; later rounds take more."""
    iterations: int
    rounds: int
    """Rounds that may pass without a new record."""
    deadline: float
    """time.monotonic() after which no new round begins."""


@dataclass(frozen=True)
class Peeled:
    """Records taken out of an update: k of them, at most the rank."""

    records: Tensor
    """(k, d + 1) with the bias' 1 last."""
    signals: Tensor
    """(k, h): what each record sent back, the update being signals.T @ records."""
    agreement: Tensor
    """(k,) share of the units, inactive at the record, where its signal vanishes; 0 where that says nothing."""
    fault: Tensor
    """(k,) distance from what the schema allows, before categories were made exact."""


def peel(
    layer: FirstLayer,
    factors: Factors,
    schema: Schema | None,
    still: bool,
    search: Search,
    generator: torch.Generator,
    progress: Progress,
) -> Peeled:
    """Take out all records that can be found and pass the checks: see the module's text.

    `still`: the update is of one step, so that the signs of the units at the sent weights are exact.
    """
    rank = factors.left.shape[1]
    known = factors.right.new_zeros(0, factors.right.shape[1])
    directions = factors.right.new_zeros(rank, 0)
    pool, idle = directions, 0
    while len(known) < rank and idle < search.rounds and (idle == 0 or time.monotonic() < search.deadline):
        rest = _rest(factors.right, known)
        starts = search.restarts * (idle + 1) * rest.shape[1]
        new = rest @ sparse_directions(factors.left @ rest, starts, search.iterations, generator)
        inside = (rest.T @ pool).norm(dim=0) > 0.999
        pool = sparsest(factors.left, torch.cat([new, pool[:, inside]], 1))[:, : 3 * rank]
        before = len(known)
        for selection in range(SELECTIONS):
            chosen = _select(pool, rest, selection, generator)
            rows = torch.linalg.lstsq(torch.cat([directions, chosen], 1), factors.right).solution[before:]
            known = _grown(known, _verified(rows, layer, factors, schema, still), rank)
            if len(known) == rank:
                break
            if len(known) > before and selection == 0:
                break
        directions = _explain(layer, factors, known, still)[0]
        idle = 0 if len(known) > before else idle + 1
        progress(len(known) / rank)
    for _ in range(SETTLE):
        again = _verified(_solve(directions, known, factors), layer, factors, schema, still)
        if len(again) < len(known):
            break
        known, directions = again, _explain(layer, factors, again, still)[0]
    rows = _solve(directions, known, factors)
    scale = rows[:, -1]
    records = rows / scale[:, None]
    worst = torch.zeros_like(scale) if schema is None else fault(schema, records[:, :-1])
    signals = scale[:, None] * (factors.left @ directions).T
    return Peeled(known, signals, _explain(layer, factors, known, still)[1], worst)


def _solve(directions: Tensor, known: Tensor, factors: Factors) -> Tensor:
    """Rows (k, d + 1), proportional to records, that belong to the directions (r, k) of known records."""
    basis = torch.cat([directions, _rest(factors.right, known)], 1)
    rows: Tensor = torch.linalg.lstsq(basis, factors.right).solution
    return rows[: len(known)]


def _explain(layer: FirstLayer, factors: Factors, records: Tensor, still: bool) -> tuple[Tensor, Tensor]:
    """Find the signal of each record (n, d + 1): the direction (r, n) that vanishes on the units inactive at it.

    Beside it the agreement (n,), see Peeled.

    A wrong record has no such direction: its inactive units are many more than the rank.
    """
    left, rank = factors.left, factors.left.shape[1]
    active, inactive = activity(layer, records, still)
    trust = inactive.to(left.dtype)
    for _ in range(TRIMS):
        gram = torch.einsum("nh,hr,hs->nrs", trust, left, left)
        directions = torch.linalg.eigh(gram)[1][..., 0].T
        signals = (left @ directions).T
        # a unit that woke up between the steps, or is counted as inactive by a record not yet exact, is left out
        odd = signals.abs() > 0.05 * len(left) ** -0.5
        trust = (inactive & ~odd).to(left.dtype)
    noise = factors.noise * (directions / factors.right.norm(dim=1, keepdim=True)).norm(dim=0)
    size = (signals.square() * active).sum(1).div(active.sum(1).clamp_min(1)).sqrt()
    zero = torch.maximum(4 * noise, 2e-3 * size)[:, None]
    vanish = ((signals.abs() < zero) & inactive).sum(1)
    agreement = vanish / inactive.sum(1).clamp_min(1)
    seen = ((signals.abs() > zero) & active).sum(1) >= 0.5 * active.sum(1)
    telling = seen & (inactive.sum(1) >= rank - 1 + SURPLUS)
    return directions, agreement * telling


def _rest(right: Tensor, known: Tensor) -> Tensor:
    """Basis (r, r - k) of the column space that is left when known records (k, d + 1) leave the row space."""
    if len(known):
        q = torch.linalg.qr(known.T).Q
        right = right - (right @ q) @ q.T
    basis: Tensor = torch.linalg.svd(right, full_matrices=False)[0]
    return basis[:, : len(right) - len(known)]


def _select(pool: Tensor, rest: Tensor, selection: int, generator: torch.Generator) -> Tensor:
    """Independent directions that fill the rest: the sparsest of the pool, or some others of it at later selections."""
    order = torch.arange(pool.shape[1], dtype=torch.float64)
    if selection:
        order += torch.rand(len(order), generator=generator, dtype=torch.float64) * rest.shape[1]
    chosen: list[Tensor] = []
    basis = rest[:, :0]
    for i in order.argsort().tolist():
        direction = pool[:, i]
        apart = direction - basis @ (basis.T @ direction)
        if apart.norm() > 0.05:
            chosen.append(direction)
            basis = torch.cat([basis, (apart / apart.norm())[:, None]], 1)
        if len(chosen) == rest.shape[1]:
            break
    missing = rest - basis @ (basis.T @ rest)
    filling = torch.linalg.svd(missing)[0][:, : rest.shape[1] - len(chosen)]
    return torch.cat([torch.stack(chosen, 1), filling], 1)


def _verified(rows: Tensor, layer: FirstLayer, factors: Factors, schema: Schema | None, still: bool) -> Tensor:
    """Rows (n, d + 1), proportional to records, that pass the checks, as records and surest first."""
    scale = rows[:, -1:]
    rows = (rows / scale)[(scale.abs() > 1e-6 * rows.norm(dim=1, keepdim=True))[:, 0]]
    worst = torch.zeros(len(rows), dtype=rows.dtype)
    if schema is not None:
        worst = fault(schema, rows[:, :-1])
        rows = torch.cat([snap(schema, rows[:, :-1]), rows[:, -1:]], 1)
    good = worst < SLACK
    rows, worst = rows[good], worst[good]
    if len(rows) == 0:
        return rows
    agreement = _explain(layer, factors, rows, still)[1]
    good = agreement >= (0.995 if still else 0.97)
    return rows[good][worst[good].argsort()]


def _grown(known: Tensor, new: Tensor, rank: int) -> Tensor:
    """Known records with those new ones that none of them repeats, `rank` at most."""
    for row in new:
        if len(known) == rank:
            break
        if not len(known) or float((known - row).norm(dim=1).min()) > 1e-2 * float(row.norm()):
            known = torch.cat([known, row[None]])
    return known
