"""Finds a batch's records one by one by the spans that each of them must lie in."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedinv.attack import Progress

from .local_search import Block, Equations, InputKinds, improve, polish
from .spans import Span

SWEEPS = 12
FEWEST, MOST = 64, 1000
"""Records drawn in a round."""
SHARP = 100.0
"""Weight of exact equations at the inputs when numbers are polished, where those behind the layer are approximate."""
POLISH = 3


@dataclass(frozen=True)
class Precision:
    """What tells a record from anything else, in squared relative residuals."""

    enough: float
    """A record whose misfit is below this is not improved further."""
    accept: float
    """One whose misfit is above this is none."""
    apart: float
    """Two closer than this behind the first layer are the same."""
    spread: float = math.inf
    """One whose misfit is this many times that of the best ones is none either."""


EXACT = Precision(enough=1e-11, accept=1e-5, apart=1e-6, spread=1e4)
"""One step at known weights: float32 rounding leaves 1e-14 to 1e-12, and 1e-7 behind sigmoids that hardly bend."""
DRIFTED = Precision(enough=1e-6, accept=2e-3, apart=5e-4, spread=15.0)
"""Several local steps move what is behind the first layer: 1e-5 remains at learning rate 0.05, 5e-4 at 0.2 (hospital,
bank, Adult, widths of 100 and 512); what is no record stays above 2e-3, or far above the records."""
HOPELESS = 3
"""Rounds after which a search that has found no record at all ends."""
BEST = 4
"""Records that set what the others' misfits are compared with."""


@dataclass(frozen=True)
class SpanBudget:
    """How long to look for records in the spans of an update."""

    starts: int = 4
    """Records drawn in a round for each one still wanted; twice as many after each round that finds nothing."""
    rounds: int = 8
    """Rounds without a new record after which the search ends."""
    seconds: float = 60.0
    """Wall clock after which no further round begins: a safety, as results then depend on the machine."""
    most_records: int = 512
    """Larger batches are not tried."""


@dataclass(frozen=True)
class Wanted:
    """What records are looked for, and how they are told from anything else."""

    equations: Equations
    """What each record fulfills."""
    aim: Callable[[Tensor], Equations]
    """The equations to search by once records (k, d) are known."""
    believe: Callable[[Tensor], Tensor]
    """Which of records (n, d) pass any further check, bool (n,)."""
    draw: Callable[[int], Tensor]
    """So many plausible records (n, d), float32, to begin at."""
    kinds: InputKinds
    count: int
    """Records to be found, at most."""
    precision: Precision


@dataclass(frozen=True)
class FoundRecords:
    """Records (k, d), float64, surest first."""

    records: Tensor
    misfit: Tensor
    """(k,), squared relative residuals as shares of the largest that would have been accepted."""


def find(wanted: Wanted, budget: SpanBudget, progress: Progress) -> FoundRecords:
    """Find records which fulfill the equations; those that the equations do not tell apart, once."""
    equations, count, precision = wanted.equations, wanted.count, wanted.precision
    records, misfit = equations.weight[:0], equations.bias[:0]
    idle, deadline = 0, time.monotonic() + budget.seconds
    while len(records) < count and (idle == 0 or time.monotonic() < deadline):
        if idle >= (budget.rounds if len(records) else min(budget.rounds, HOPELESS)):
            break
        aimed = wanted.aim(records)
        coarse = aimed.to(torch.float32)
        starts = budget.starts * (count - len(records)) * 2**idle
        drawn = wanted.draw(min(max(starts, FEWEST), MOST))
        tried = improve(drawn, coarse, wanted.kinds, SWEEPS, precision.enough)
        tried = tried[coarse.misfit(tried) < 10 * precision.accept].double()
        tried = polish(tried, _sharpened(aimed), wanted.kinds, POLISH)
        tried = tried[aimed.misfit(tried) < precision.accept]
        tried = tried[wanted.believe(tried)]
        before = len(records)
        records, misfit = _distinct(torch.cat([records, tried]), equations, precision, count)
        idle = 0 if len(records) > before else idle + 1
        progress(len(records) / count)
    return FoundRecords(records, misfit / _limit(misfit, precision))


def aim_apart(equations: Equations, spans: tuple[Span, Span], known: Tensor, count: int) -> Equations:
    """The equations, and as fresh directions what records (k, d) do not span, behind the first layer if possible.

    Of the spans as many directions count as there are records, `count`: the first ones, the others are drift.
    """
    behind = len(equations.at_hidden.equations) > 0
    span = spans[int(behind)]
    vectors = equations.hidden(known) if behind else known
    rows = span.right[:count]
    basis = torch.linalg.qr(torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1).T).Q
    rest = torch.linalg.svd(rows - (rows @ basis) @ basis.T, full_matrices=False)[2]
    fresh = rest[: max(1, len(rows) - len(known))]
    if behind:
        return replace(equations, at_hidden=Block(equations.at_hidden.equations, fresh))
    return replace(equations, at_inputs=Block(equations.at_inputs.equations, fresh))


def _sharpened(equations: Equations) -> Equations:
    block = equations.at_inputs
    return replace(equations, at_inputs=Block(SHARP**0.5 * block.equations, block.fresh))


def _distinct(records: Tensor, equations: Equations, precision: Precision, count: int) -> tuple[Tensor, Tensor]:
    """The best `count` of records (n, d), none twice, and their misfits."""
    misfit = equations.misfit(records)
    order = misfit.argsort()
    order = order[misfit[order] < precision.accept]
    vectors = equations.hidden(records[order])
    vectors = torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1)
    apart = torch.cdist(vectors, vectors).square() / vectors.square().sum(1)
    same = min(precision.apart, precision.spread * float(misfit[order[:BEST]].mean())) if len(order) else 0.0
    kept: list[int] = []
    for i in range(len(order)):
        if len(kept) < count and (not kept or float(apart[i, kept].min()) > same):
            kept.append(i)
    order = order[kept]
    order = order[misfit[order] < _limit(misfit[order], precision)]
    return records[order], misfit[order]


def _limit(misfit: Tensor, precision: Precision) -> float:
    """Largest misfit that is accepted beside these, which rise."""
    return min(precision.accept, precision.spread * float(misfit[:BEST].mean())) if len(misfit) else precision.accept
