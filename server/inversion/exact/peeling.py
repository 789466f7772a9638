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
from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .first_layer import Factors, FirstLayer
from .sparse import sparse_directions, sparsest
from .validity import SLACK, activity, fault, snap

SURPLUS = 4
"""Inactive units that a record must have beyond those that any direction could be made to vanish on."""
TRIMS = (0.1, 0.01, 0.0)
"""A signal is fitted as often, each time without the inactive units that exceed this share of its root mean square."""
ATTEMPTS = 3
"""Times that the search is taken up again when records fail once all are solved for together."""
MOST_STARTS = 4096
"""Starting points of a round, for the memory they take."""
SETTLE = 4
"""Times that all records are solved for again, each with the others' signals as they are then known."""
EXACT = 5e-3
"""Distance from what the schema allows that rounding and not quite exact signals may leave in a record."""
SELECTIONS = 6
"""Sets of directions that are tried in a round."""


@dataclass(frozen=True)
class PeelingBudget:
    """How long to look for records in a first layer's update."""

    restarts: int
    """Starting points for each record not yet found, in the first round; later rounds take more."""
    iterations: int
    rounds: int
    """Rounds that may pass without a new record."""
    deadline: float
    """time.monotonic() after which no new round begins."""


@dataclass(frozen=True)
class Mixture:
    """A first layer's update, which mixes the records' signals, and what tells a record from anything else."""

    layer: FirstLayer
    factors: Factors
    schema: Schema | None
    """What valid records look like; None where nothing is known of that."""
    still: bool
    """Whether the update is of one step, so that the signs of the units at the sent weights are exact."""


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


def peel(mixture: Mixture, budget: PeelingBudget, generator: torch.Generator, progress: Progress) -> Peeled:
    """Take out all records that can be found and pass the checks: see the module's text."""
    layer, factors, schema, still = mixture.layer, mixture.factors, mixture.schema, mixture.still
    known = factors.right.new_zeros(0, factors.right.shape[1])
    for _ in range(ATTEMPTS):
        known = _search(known, mixture, budget, generator, progress)
        found = len(known)
        known = _settle(known, layer, factors, schema, still)
        if len(known) == found or time.monotonic() > budget.deadline:
            break
    directions, agreement = _explain(layer, factors, known, still)
    rows = _solve(torch.cat([directions, _rest(factors.right, known)], 1), factors)[: len(known)]
    if len(known) < len(factors.right) and not _checks_exactly(schema, still):
        agreement = agreement / 2  # directions still unknown may have spoiled what is known
    scale = rows[:, -2]
    worst = torch.zeros_like(scale) if schema is None else fault(schema, rows[:, :-2] / scale[:, None])
    return Peeled(known, scale[:, None] * (factors.left @ directions).T, agreement, worst)


def _search(
    known: Tensor, mixture: Mixture, budget: PeelingBudget, generator: torch.Generator, progress: Progress
) -> Tensor:
    """Known records (k, d + 1) and as many more as the search finds."""
    layer, factors, schema, still = mixture.layer, mixture.factors, mixture.schema, mixture.still
    rank = factors.left.shape[1]
    one_signed = layer.signs is not None
    left = factors.left if layer.signs is None else layer.signs[:, None] * factors.left
    exact = _checks_exactly(schema, still)
    directions = _explain(layer, factors, known, still)[0]
    pool, idle = directions[:, :0], 0
    while len(known) < rank and idle < budget.rounds and (idle == 0 or time.monotonic() < budget.deadline):
        rest = _rest(factors.right, known)
        starts = min(budget.restarts * 2**idle * rest.shape[1], MOST_STARTS)
        new = rest @ sparse_directions(left @ rest, starts, budget.iterations, generator, one_signed)
        inside = (rest.T @ pool).norm(dim=0) > 0.999
        pool = sparsest(left, torch.cat([new, pool[:, inside]], 1), one_signed)[:, : 3 * rank]
        before = len(known)
        shuffle = False
        for selection in range(SELECTIONS):
            chosen = _select(pool, rest, generator if shuffle else None)
            rows = _solve(torch.cat([directions, chosen], 1), factors)[before:]
            verified = _verified(rows, layer, factors, schema, still)
            grown = _grown(known, verified, rank)
            # without a check that sees slightly spoiled records, part of a set is the last resort
            if exact or len(grown) == rank or idle == budget.rounds - 1:
                known = grown
            if len(known) == rank or (len(known) > before and selection == 0):
                break
            # a record found beside a mixture tells its own signal, which the next selection has to choose from
            shuffle = selection > 0 or len(verified) == 0
            signals = _explain(layer, factors, verified, still)[0]
            pool = sparsest(left, torch.cat([signals, pool], 1), one_signed)[:, : 3 * rank]
        directions = _explain(layer, factors, known, still)[0]
        idle = 0 if len(known) > before else idle + 1
        progress(len(known) / rank)
    return known


def _settle(known: Tensor, layer: FirstLayer, factors: Factors, schema: Schema | None, still: bool) -> Tensor:
    """Solve for the known records (k, d + 1) again with each other's signals, and drop those that then fail."""
    for _ in range(SETTLE):
        directions = _explain(layer, factors, known, still)[0]
        rows = _solve(torch.cat([directions, _rest(factors.right, known)], 1), factors)[: len(known)]
        known = _verified(rows, layer, factors, schema, still)
    return known


def _solve(basis: Tensor, factors: Factors) -> Tensor:
    """Rows (r, d + 2) that belong to the directions (r, r) of a basis, proportional to records where those are signals.

    The last column is the standard deviation of the noise in the others.
    """
    inverse = torch.linalg.pinv(basis)
    return torch.cat([inverse @ factors.right, factors.noise * inverse.norm(dim=1, keepdim=True)], 1)


def _explain(layer: FirstLayer, factors: Factors, records: Tensor, still: bool) -> tuple[Tensor, Tensor]:
    """Find the signal of each record (n, d + 1): the direction (r, n) that vanishes on the units inactive at it.

    Beside it the agreement (n,), see Peeled.

    A wrong record has no such direction: its inactive units are many more than the rank.
    """
    left, rank = factors.left, factors.left.shape[1]
    if len(records) == 0:
        return left.new_zeros(rank, 0), left.new_zeros(0)
    active, inactive = activity(layer, records, still)
    trust = inactive.to(left.dtype)
    for bound in TRIMS:
        gram = (trust[:, :, None] * left).transpose(1, 2) @ left
        directions = torch.linalg.eigh(gram)[1][..., 0].T
        signals = (left @ directions).T
        # a unit that woke up between the steps, or is counted as inactive by a record not yet exact, is left out
        ordered = torch.where(inactive, signals.abs(), torch.inf).sort(dim=1).values
        most = ordered.gather(1, (0.6 * inactive.sum(1, keepdim=True)).long()).clamp_min(bound * len(left) ** -0.5)
        trust = (inactive & (signals.abs() <= most)).to(left.dtype)
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


def _select(pool: Tensor, rest: Tensor, shuffle: torch.Generator | None) -> Tensor:
    """Independent directions that fill the rest: the sparsest of the pool, or with `shuffle` some of the next."""
    order = torch.arange(pool.shape[1], dtype=torch.float64)
    if shuffle is not None:
        order += torch.rand(len(order), generator=shuffle, dtype=torch.float64) * rest.shape[1]
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
    """The records (n, d + 1) among rows as _solve gives them that pass the checks, surest first."""
    rows = rows[rows[:, -2].abs() > 20 * rows[:, -1]]
    rows = rows / rows[:, -2:-1]
    blur, rows = rows[:, -1].abs(), rows[:, :-1]
    worst = torch.zeros_like(blur)
    if schema is not None:
        worst = fault(schema, rows[:, :-1])
        rows = torch.cat([snap(schema, rows[:, :-1]), rows[:, -1:]], 1)
    good = worst < (EXACT + 6 * blur).clamp_max(SLACK)
    rows, worst = rows[good], worst[good]
    if len(rows) == 0:
        return rows
    agreement = _explain(layer, factors, rows, still)[1]
    good = agreement >= (0.995 if still else 0.97)
    return rows[good][worst[good].argsort()]


def _checks_exactly(schema: Schema | None, still: bool) -> bool:
    """Whether the checks notice that a record is spoiled by a little of another one."""
    return still or (schema is not None and any(isinstance(column, Categorical) for column in schema.columns))


def _grown(known: Tensor, new: Tensor, rank: int) -> Tensor:
    """Known records with those new ones that none of them repeats, `rank` at most."""
    for row in new:
        if len(known) == rank:
            break
        if not len(known) or float((known - row).norm(dim=1).min()) > 1e-2 * float(row.norm()):
            known = torch.cat([known, row[None]])
    return known
