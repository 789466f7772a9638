"""Fits a claim of a whole batch to the client's training, unrolled step by step."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Progress

from .. import clock
from .entries import Entries
from .fit import Entry, fit, pick
from .half_spaces import explaining
from .magnitudes import ROUNDING
from .replay import Course, replay
from .schedule import next_schedule
from .tuples import admitted, admitting

REPEATED = 0.2
"""Mismatch up to which a claim, trained on again, explains an update, so that all its records count as verified.

Where a single record of 8 to 32 is drawn from the marginals instead, 0.23 to 0.78 is left after a step or five epochs
of Adam, where half of them are, 0.74 or more (hospital, `python -m benchmarks zeros`)."""
LESS, PATIENCE = 0.95, 4
"""Share of the least mismatch so far that a round must reach, and rounds without one after which they end."""
ALTERNATIONS = 12
"""Rounds, at most, in which the order of batches and the numbers are found in turn."""
STRIDES = 5
"""Gauss-Newton steps between two searches for the order of batches."""
FIRST = 0.1
"""Entries of the first layer beside each of the second to which numbers are fitted behind several steps: the first
layer's hang on units that switch on the way, which derivatives do not tell."""
PRECISE = 4
"""Factor on the number of entries after a single step, of which each costs less and says less."""
HALF_ULP = 2.0**-25
"""Standard deviation of rounding a weight to float32, relative to it, about."""


@dataclass(frozen=True)
class SupportBudget:
    """Limits of the search."""

    entries: int = 3000
    """Entries of each of the first two layers to which numbers are fitted."""
    iterations: int = 30
    """Gauss-Newton steps of the fit at most."""
    most_records: int = 128
    """Records of the largest batch that is attacked."""


@dataclass(frozen=True)
class Work:
    """Random numbers for the search, and how far it has come."""

    rng: np.random.Generator
    progress: Progress

    def generator(self) -> torch.Generator:
        """A generator of torch's own, seeded by the next number."""
        return torch.Generator().manual_seed(int(self.rng.integers(2**63)))


@dataclass(frozen=True)
class Problem:
    """What records are fitted to."""

    entries: Entries
    course: Course
    """The client's training, but for the batches where there are several in an epoch."""
    change: list[Tensor]
    """The update by layer, (outputs, inputs + 1)."""
    sizes: list[int]
    """Sizes of the batches of an epoch; empty where the order is known."""
    lossless: bool
    """Whether the update is a product, not a difference of float32 weights."""
    idle: list[Tensor]
    """Changes by decay alone, by layer."""
    masked: bool = False
    """Whether entries of 0 are those that were not sent."""

    def explained(self, course: Course, records: Tensor) -> "Explained":
        """A training on records with what it leaves of the update."""
        return Explained.by(course, records, self.change, self.masked)

    def drawing(self, most: int, generator: torch.Generator) -> Callable[[], Entry]:
        """Draws entries to fit to, of those that moved.

        Of several steps at most `most` of the second layer, and FIRST times as many of the first; of one step PRECISE
        times as many of both, always those that are known best.
        """
        moved = [c - i for c, i in zip(self.change, self.idle, strict=True)]
        if len(self.course.steps) > 1:
            most_of = (max(1, round(FIRST * most)), most)
            return lambda: self.observed(pick(moved, most_of, self.entries.numbers, generator, best=False))
        most *= PRECISE if self.lossless else 1
        known = self.observed(pick(moved, (most, most), self.entries.numbers, generator, best=self.lossless))
        return lambda: known

    def observed(self, at: tuple[Tensor, ...]) -> Entry:
        """The entries at these positions with their changes and what float32 leaves unknown of them."""
        entry = Entry(at, torch.zeros(0), torch.zeros(0))
        change, size = entry.of(self.change), entry.of(self.course.start).abs()
        spread = ROUNDING * change.abs() / 2
        if not self.lossless:
            spread = spread + HALF_ULP * (size + change.abs()) * len(self.course.steps) ** 0.5
        return Entry(at, change, spread.clamp_min(1e-30))


def trained(problem: Problem, records: Tensor, budget: SupportBudget, work: Work) -> "Explained":
    """The client's course, and the records with numbers fitted to it. Raises Limit where orders are too many."""
    entries, course = problem.entries, problem.course
    generator = work.generator()
    bounds = (entries.low, entries.high)
    draw = problem.drawing(budget.entries, generator)
    best = problem.explained(course, records)
    if len(problem.sizes) > 1:
        moved, since = entries.moved.nonzero(), 0
        entry = problem.observed((torch.stack([moved[:, 0], entries.categories[moved[:, 1]]], 1),))
        sole = sole_records(entries, records)
        for k in range(ALTERNATIONS if budget.iterations else 1):
            before = course.steps
            for _ in range(2):
                course = next_schedule(course, entry, sole, records, problem.sizes, generator)
            records = fit(course, draw, records, entries.numbers, bounds, min(STRIDES, budget.iterations)).records
            work.progress(k / ALTERNATIONS)
            found = problem.explained(course, records)
            since = 0 if found.left < LESS * best.left else since + 1
            best = min(best, found, key=lambda one: one.left)
            same = all(torch.equal(a, b) for a, b in zip(before, course.steps, strict=True))
            if clock.over() or (same and found.left < REPEATED / 2) or since == PATIENCE:
                break
    last = fit(best.course, draw, best.records, entries.numbers, bounds, budget.iterations, work.progress).records
    return min(best, problem.explained(best.course, last), key=lambda one: one.left)


@dataclass(frozen=True)
class Explained:
    """A claim's training, and what of the update it leaves."""

    course: Course
    records: Tensor
    """Float64 (n, d)."""
    left: float
    """Distance of the update that the training makes from the one that was seen, relative to its norm."""

    @classmethod
    def by(cls, course: Course, records: Tensor, change: list[Tensor], masked: bool = False) -> "Explained":
        """A training with what it leaves of an update (layers of outputs, inputs + 1); of what was sent if `masked`."""
        again = replay(course, records)[1]
        apart = sum(
            float((a - b).square().mul(b != 0 if masked else 1).sum()) for a, b in zip(again, change, strict=True)
        )
        return cls(course, records, float((apart / sum(float(c.square().sum()) for c in change)) ** 0.5))


def labelled(course: Course, records: Tensor, change: list[Tensor]) -> Course:
    """A training whose batches are known with labels changed one by one as long as that explains more of an update.

    Where few entries are one batch's alone their signs leave some labels open, and a fit to a wrong one goes nowhere.
    """
    best = Explained.by(course, records, change)
    for place, label in itertools.product(range(len(records)), range(len(course.weights))):
        if clock.over():
            break
        if int(best.course.labels[place]) != label:
            labels = best.course.labels.clone()
            labels[place] = label
            tried = Explained.by(replace(best.course, labels=labels), records, change)
            best = min(best, tried, key=lambda one: one.left)
    return best.course


def sole_records(entries: Entries, records: Tensor) -> Tensor:
    """The record that alone reaches each entry that moved, int64 (p,); -1 where several may."""
    tuples = torch.stack([r[entries.categories].nonzero()[:, 0] for r in records])
    explains = explaining(entries, tuples, admitted(admitting(entries), tuples))
    return torch.where(explains.sum(2) == 1, explains.long().argmax(2), -1)[entries.moved]
