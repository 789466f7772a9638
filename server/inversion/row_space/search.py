"""Searches a batch's records one by one, by the equations that each of them must fulfill."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedinv.attack import Progress

from .. import clock
from .local_search import Block, Equations, InputKinds, improve, polish
from .spans import Span

SWEEPS = 12
"""Sweeps of local search over the records drawn in a round, at most."""
FEWEST, MOST = 64, 1000
"""Least and largest number of records drawn in a round."""
SHARP = 100.0
"""Weight of the equations at the inputs when numbers are polished: those are exact, those behind the layer may not be.
"""
POLISH = 3
"""Rounds of polishing numbers before a record is accepted."""


@dataclass(frozen=True)
class Precision:
    """Thresholds, in squared relative residuals, that separate records from wrong candidates."""

    enough: float
    """A candidate whose misfit is at most this is not improved further."""
    accept: float
    """A candidate whose misfit is this or more is rejected."""
    apart: float
    """Two candidates whose squared relative distance behind the first layer is at most this count as one."""
    spread: float = math.inf
    """A candidate whose misfit is this many times the best ones' mean, or more, is rejected."""
    blur: float = 0.0
    """A candidate counts as one with a better one, too, within this many times its own misfit: it did not get there."""


EXACT = Precision(enough=1e-11, accept=1e-5, apart=1e-6, spread=1e4, blur=10.0)
"""Thresholds after a single step at known weights: float32 rounding leaves misfits of 1e-14 to 1e-12, and 1e-7 behind
nearly linear sigmoids."""
DRIFTED = Precision(enough=1e-6, accept=2e-3, apart=5e-4, spread=15.0)
"""Thresholds after several local steps, which change the hidden activations: misfits of 1e-5 remain at learning rate
0.05, 5e-4 at 0.2 (hospital, bank, Adult, widths of 100 and 512); wrong candidates stay above 2e-3, or far above the
records."""
HOPELESS = 3
"""Rounds after which a search that has found no record at all ends."""
BEST = 4
"""Number of best records whose mean misfit the others' misfits are compared with."""


@dataclass(frozen=True)
class SpanBudget:
    """Limits of the search for records in the spans of an update."""

    starts: int = 4
    """Starting records drawn in a round for each one not yet found; doubled after each round without any."""
    rounds: int = 8
    """Rounds in a row without a new record after which the search ends."""
    seconds: float = 60.0
    """Seconds of computing after which no further round begins; a limit that is hit makes results machine-dependent."""
    most_records: int = 512
    """Records of the largest batch that is attacked."""
    enough: int | None = None
    """Number of records after which no further round begins; None for all."""


@dataclass(frozen=True)
class Aim:
    """What one round searches by."""

    equations: Equations
    """Equations that are searched, drawn towards records not yet known."""
    believe: Callable[[Tensor], Tensor]
    """Function that returns which of records (n, d) pass further checks, bool (n,)."""


@dataclass(frozen=True)
class Wanted:
    """The records that are searched, by their equations and checks."""

    equations: Equations
    """Equations that each record fulfills."""
    aim: Callable[[Tensor, int], Aim]
    """Function that returns what to search by, given the records already known (k, d) and the number of rounds in a row
    that found none."""
    draw: Callable[[int], Tensor]
    """Function that draws n plausible records (n, d), float32, to start from."""
    kinds: InputKinds
    count: int
    """Largest number of records to find."""
    precision: Precision


@dataclass(frozen=True)
class FoundRecords:
    """k records that fulfill their equations, smallest misfit first."""

    records: Tensor
    """The records, float64 (k, d)."""
    misfit: Tensor
    """Squared relative residuals as shares, 0 to 1, of the largest that would have been accepted, (k,)."""


def find(wanted: Wanted, budget: SpanBudget, progress: Progress) -> FoundRecords:
    """Find records that fulfill the equations; records that the equations cannot separate are found once."""
    equations, count, precision = wanted.equations, wanted.count, wanted.precision
    records, misfit = equations.weight[:0], equations.bias[:0]
    idle, deadline = 0, clock.seconds() + budget.seconds
    most = count if budget.enough is None else min(count, budget.enough)
    try:
        while len(records) < most and (idle == 0 or clock.seconds() < deadline):
            if idle >= (budget.rounds if len(records) else min(budget.rounds, HOPELESS)):
                break
            aim = wanted.aim(records, idle)
            aimed = aim.equations
            coarse = aimed.to(torch.float32)
            starts = budget.starts * (most - len(records)) * 2**idle
            drawn = wanted.draw(min(max(starts, FEWEST), MOST))
            tried = improve(drawn, coarse, wanted.kinds, SWEEPS, precision.enough)
            tried = tried[_different(tried, coarse, 10 * precision.accept, precision.apart)].double()
            tried = polish(tried, _sharpened(aimed), wanted.kinds, POLISH)
            tried = tried[aimed.misfit(tried) < precision.accept]
            tried = tried[aim.believe(tried)]
            before = len(records)
            records, misfit = _distinct(torch.cat([records, tried]), equations, precision, count)
            idle = 0 if len(records) > before else idle + 1
            progress(len(records) / count)
    except clock.OutOfTime:
        pass  # what was found fulfills its equations
    return FoundRecords(records, misfit / _limit(misfit, precision))


def aim_at_unexplained(equations: Equations, spans: tuple[Span, Span], known: Tensor, count: int) -> Equations:
    """Add to the equations the directions of the update's span that the known records (k, d) leave over.

    The search is then drawn towards them. Hidden activations are used where that layer has equations, else inputs. Only
    the first `count` directions of a span count, as many as there are records; later ones come of the local steps.
    """
    behind = len(equations.at_hidden.equations) > 0
    span = spans[int(behind)]
    vectors = equations.hidden(known) if behind else known
    rows = span.right[:count]
    basis = torch.linalg.qr(torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1).T).Q
    rest = torch.linalg.svd(rows - (rows @ basis) @ basis.T, full_matrices=False)[2]
    unexplained = rest[: max(1, len(rows) - len(known))]
    if behind:
        return replace(equations, at_hidden=Block(equations.at_hidden.equations, unexplained))
    return replace(equations, at_inputs=Block(equations.at_inputs.equations, unexplained))


def _sharpened(equations: Equations) -> Equations:
    block = equations.at_inputs
    return replace(equations, at_inputs=Block(SHARP**0.5 * block.equations, block.unexplained))


def _distinct(records: Tensor, equations: Equations, precision: Precision, count: int) -> tuple[Tensor, Tensor]:
    """The `count` records of (n, d) with the smallest misfits, without repeats, and the misfits."""
    misfit = equations.misfit(records)
    best = misfit[misfit < precision.accept].sort().values[:BEST]
    same = min(precision.apart, precision.spread * float(best.mean())) if len(best) else 0.0
    order = _different(records, equations, precision.accept, same, precision.blur)[:count]
    order = order[misfit[order] < _limit(misfit[order], precision)]
    return records[order], misfit[order]


def _different(records: Tensor, equations: Equations, accept: float, same: float, blur: float = 0.0) -> Tensor:
    """Places of the records of (n, d) with misfits below `accept`, smallest first, each unlike those before it.

    Alike are two behind the first layer at most `same` apart, or `blur` times the misfit of the worse one.
    """
    misfit = equations.misfit(records)
    order = misfit.argsort()
    order = order[misfit[order] < accept]
    vectors = equations.hidden(records[order])
    vectors = torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1)
    apart = (torch.cdist(vectors, vectors).square() / vectors.square().sum(1)).tolist()
    alike = (blur * misfit[order]).clamp_min(same).tolist()
    kept: list[int] = []
    for place, row in enumerate(apart):
        if all(row[other] > alike[place] for other in kept):
            kept.append(place)
    return order[kept]


def _limit(misfit: Tensor, precision: Precision) -> float:
    """Largest misfit that is accepted, given the records' misfits in rising order."""
    return min(precision.accept, precision.spread * float(misfit[:BEST].mean())) if len(misfit) else precision.accept
