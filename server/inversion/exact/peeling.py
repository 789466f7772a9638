"""Extracts records from a first layer's update, a few at a time, each verified before it is accepted.

With C (h, r) the records' back-propagated signals and X (r, d + 1) the records with a 1 for the bias, the update is
C X. Any basis Q of its column space gives rows Q^-1 (C X); where Q's columns are signals, the rows are records up to
scale. A column that is a mixture of signals corrupts only the rows of the others in that mixture, so the rows that pass
the checks are accepted and removed from the row space, and the search continues in the smaller rest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Progress
from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .. import clock
from .first_layer import Factors, FirstLayer
from .sparse import sparse_directions, sparsest
from .validity import SLACK, activity, fault, snap

SURPLUS = 4
"""Surplus of inactive units that verifies a record: a rank-r space always holds a direction that vanishes on r - 1
units; a record is accepted only if at least r - 1 + SURPLUS units are inactive and its signal vanishes on them."""
TRIMS = (0.1, 0.01, 0.0)
"""Shares of a signal's root mean square by which it is refitted, once for each: inactive units whose value exceeds the
share are dropped, as they woke up between local steps."""
ATTEMPTS = 3
"""Searches for records at most; another one follows where records fail once all are solved for together."""
MOST_STARTS = 4096
"""Starting points of a round at most, to bound the memory they take."""
SETTLE = 4
"""Times that all records are solved for jointly, each time with signals from the records as then known."""
EXACT = 5e-3
"""Distance from a valid record, as `fault` measures it, up to which rounding and inexact signals explain it."""
SELECTIONS = 6
"""Sets of directions that are tried in a round at most."""


@dataclass(frozen=True)
class PeelingBudget:
    """Limits of the search for records in a first layer's update."""

    restarts: int
    """Starting points for each record not yet found; doubled with each round that finds none."""
    iterations: int
    """Descent steps from each starting point."""
    rounds: int
    """Rounds in a row without a new record after which the search ends."""
    deadline: float
    """`clock.seconds()` after which no new round begins."""
    enough: int | None = None
    """Number of records after which no new round begins; None for all."""


@dataclass(frozen=True)
class Mixture:
    """A first layer's update, which mixes the records' signals, and what is known to verify a record."""

    layer: FirstLayer
    factors: Factors
    schema: Schema | None
    """The schema that a valid record fits; None where it is withheld or records may be invalid."""
    single_step: bool
    """Whether the update is of a single step, so that the sent weights decide exactly which units are active."""


@dataclass(frozen=True)
class Peeled:
    """Records extracted from an update, k of them, at most its rank."""

    records: Tensor
    """The records, with a last column of ones for the bias, (k, d + 1)."""
    signals: Tensor
    """Each record's back-propagated signal, (k, h); the update is signals.T @ records."""
    agreement: Tensor
    """Share, 0 to 1, of the units inactive at each record on which its signal vanishes, (k,); 0 where that is not
    informative, and halved where unknown directions may have corrupted the record."""
    fault: Tensor
    """Distance of each record from a valid one before its categories were made one-hot, (k,); see `fault`."""

    def those(self, good: Tensor) -> "Peeled":
        """The records for which `good`, bool (k,), is true."""
        return Peeled(self.records[good], self.signals[good], self.agreement[good], self.fault[good])


def peel(mixture: Mixture, budget: PeelingBudget, generator: torch.Generator, progress: Progress) -> Peeled:
    """Extract all records that can be found and pass the checks; see the module's docstring."""
    layer, factors, schema, single_step = mixture.layer, mixture.factors, mixture.schema, mixture.single_step
    known = factors.right.new_zeros(0, factors.right.shape[1])
    for _ in range(ATTEMPTS):
        known = _search(known, mixture, budget, generator, progress)
        found = len(known)
        try:
            known = _settle(known, layer, factors, schema, single_step)
        except clock.OutOfTime:
            break
        if len(known) == found or clock.seconds() > budget.deadline:
            break
    with clock.finishing():
        directions, agreement = _explain(layer, factors, known, single_step)
        rows = _solve(torch.cat([directions, _rest(factors.right, known)], 1), factors)[: len(known)]
    if len(known) < len(factors.right) and not _checks_exactly(schema, single_step):
        agreement = agreement / 2  # directions not found yet may have corrupted the known records
    scale = rows[:, -2]
    worst = torch.zeros_like(scale) if schema is None else fault(schema, rows[:, :-2] / scale[:, None])
    return Peeled(known, scale[:, None] * (factors.left @ directions).T, agreement, worst)


def _search(
    known: Tensor, mixture: Mixture, budget: PeelingBudget, generator: torch.Generator, progress: Progress
) -> Tensor:
    """The known records (k, d + 1) and those that the search finds beside them."""
    layer, factors, schema, single_step = mixture.layer, mixture.factors, mixture.schema, mixture.single_step
    rank = factors.left.shape[1]
    wanted = rank if budget.enough is None else min(rank, budget.enough)
    one_signed = layer.signs is not None
    left = factors.left if layer.signs is None else layer.signs[:, None] * factors.left
    exact = _checks_exactly(schema, single_step)
    directions = _explain(layer, factors, known, single_step)[0]
    pool, idle = directions[:, :0], 0
    try:
        while len(known) < wanted and idle < budget.rounds and (idle == 0 or clock.seconds() < budget.deadline):
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
                verified = _verified(rows, layer, factors, schema, single_step)
                grown = _grown(known, verified, rank)
                # without a check that detects slightly corrupted records, a partial set is the last resort
                if exact or len(grown) == rank or idle == budget.rounds - 1:
                    known = grown
                if len(known) == rank or (len(known) > before and selection == 0):
                    break
                # a record found beside a mixture reveals its own signal, from which the next selection can choose
                shuffle = selection > 0 or len(verified) == 0
                signals = _explain(layer, factors, verified, single_step)[0]
                pool = sparsest(left, torch.cat([signals, pool], 1), one_signed)[:, : 3 * rank]
            directions = _explain(layer, factors, known, single_step)[0]
            idle = 0 if len(known) > before else idle + 1
            progress(len(known) / rank)
    except clock.OutOfTime:
        pass  # what is known passed its checks
    return known


def _settle(known: Tensor, layer: FirstLayer, factors: Factors, schema: Schema | None, single_step: bool) -> Tensor:
    """Solve for the known records (k, d + 1) jointly, each with the others' signals; drop those that then fail."""
    for _ in range(SETTLE):
        directions = _explain(layer, factors, known, single_step)[0]
        rows = _solve(torch.cat([directions, _rest(factors.right, known)], 1), factors)[: len(known)]
        known = _verified(rows, layer, factors, schema, single_step)
    return known


def _solve(basis: Tensor, factors: Factors) -> Tensor:
    """Rows (r, d + 2) that belong to a basis of directions (r, r): multiples of records where those are signals.

    The last column is the standard deviation of the noise in the others.
    """
    inverse = torch.linalg.pinv(basis)
    return torch.cat([inverse @ factors.right, factors.noise * inverse.norm(dim=1, keepdim=True)], 1)


def _explain(layer: FirstLayer, factors: Factors, records: Tensor, single_step: bool) -> tuple[Tensor, Tensor]:
    """Find each record's signal, for records (n, d + 1): the direction (r, n) that vanishes on its inactive units.

    Returns the directions and the agreement (n,), see Peeled. A wrong record has no such direction: its inactive units
    are many more than the rank.
    """
    left, rank = factors.left, factors.left.shape[1]
    if len(records) == 0:
        return left.new_zeros(rank, 0), left.new_zeros(0)
    active, inactive = activity(layer, records, single_step)
    trust = inactive.to(left.dtype)
    for bound in TRIMS:
        clock.check()
        gram = (trust[:, :, None] * left).transpose(1, 2) @ left
        directions = torch.linalg.eigh(gram)[1][..., 0].T
        signals = (left @ directions).T
        # units that became active between steps, or seem inactive as the record is not exact yet, are left out
        ordered = torch.where(inactive, signals.abs(), torch.inf).sort(dim=1).values
        most = ordered.gather(1, (0.6 * inactive.sum(1, keepdim=True)).long()).clamp_min(bound * len(left) ** -0.5)
        trust = (inactive & (signals.abs() <= most)).to(left.dtype)
    noise = factors.noise * (directions / factors.right.norm(dim=1, keepdim=True)).norm(dim=0)
    size = (signals.square() * active).sum(1).div(active.sum(1).clamp_min(1)).sqrt()
    zero = torch.maximum(4 * noise, 2e-3 * size)[:, None]
    vanish = ((signals.abs() < zero) & inactive).sum(1)
    agreement = vanish / inactive.sum(1).clamp_min(1)
    seen = ((signals.abs() > zero) & active).sum(1) >= 0.5 * active.sum(1)
    informative = seen & (inactive.sum(1) >= rank - 1 + SURPLUS)
    return directions, agreement * informative


def _rest(right: Tensor, known: Tensor) -> Tensor:
    """Basis (r, r - k) of the directions that belong to the row space without the known records (k, d + 1)."""
    if len(known):
        q = torch.linalg.qr(known.T).Q
        right = right - (right @ q) @ q.T
    basis: Tensor = torch.linalg.svd(right, full_matrices=False)[0]
    return basis[:, : len(right) - len(known)]


def _select(pool: Tensor, rest: Tensor, shuffle: torch.Generator | None) -> Tensor:
    """Independent directions that span the rest: the sparsest of the pool, or with `shuffle` a random choice near them.

    Where the pool does not suffice, directions of the rest itself fill up.
    """
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


def _verified(rows: Tensor, layer: FirstLayer, factors: Factors, schema: Schema | None, single_step: bool) -> Tensor:
    """The records (n, d + 1) among rows of `_solve` that pass the checks, those nearest to valid ones first."""
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
    agreement = _explain(layer, factors, rows, single_step)[1]
    good = agreement >= (0.995 if single_step else 0.97)
    return rows[good][worst[good].argsort()]


def _checks_exactly(schema: Schema | None, single_step: bool) -> bool:
    """Whether the checks detect that a record is corrupted by a little of another one."""
    return single_step or (schema is not None and any(isinstance(column, Categorical) for column in schema.columns))


def _grown(known: Tensor, new: Tensor, rank: int) -> Tensor:
    """The known records and those new ones that repeat none of them, `rank` at most."""
    for row in new:
        if len(known) == rank:
            break
        if not len(known) or float((known - row).norm(dim=1).min()) > 1e-2 * float(row.norm()):
            known = torch.cat([known, row[None]])
    return known
