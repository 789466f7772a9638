"""Claims the records behind an update of any optimizer that works entry by entry."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Claim, Exchange, Knowledge, Limit, Progress
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers import SGD
from fedinv.task.schema import Schema

from .. import clock
from ..distortion import UNDISTORTED, Distortion
from ..evidence import unusable
from ..exact.validity import snap
from ..local_training import known_network, local_steps
from ..matching.optimize import part
from ..row_space.reading import read_records
from ..row_space.search import SpanBudget
from .classes import Found, by_batches, by_classes, class_weights
from .entries import Entries, idle, lossless, read_entries
from .fit import Entry, fit, pick
from .half_spaces import explaining
from .magnitudes import ROUNDING, decoded
from .remainder import FITTED, Batch, remaining
from .replay import Course, joined, replay
from .schedule import batch_sizes, next_schedule
from .tuples import admitted, admitting

RESIDUE = 3e-6
"""Noise that a smoothed gradient is said to have, relative to its root mean square: enough for the search to accept
what is not exact."""
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
ROUNDS = 3
"""Rounds without a new record after which that search ends: the last ones are read off what the others leave."""
FEW = 8
"""Missing records up to which they are looked for in what the found ones leave of the gradient."""
SPANS = 20.0
"""Seconds of computing of the search in the spans of a single step's gradient."""
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


def read_support(last: Exchange, knows: Knowledge, distortion: Distortion, budget: SupportBudget, work: Work) -> Claim:
    """Claim records with labels. Raises ValueError, in the words of a note, where nothing can be claimed."""
    schema = _applies(last, knows, distortion, budget)
    entries = read_entries(last, knows, schema, _known(last, distortion))
    steps = local_steps(knows, last.records) or 1
    plain = {name: idle(tensor.double(), knows, steps) for name, tensor in last.sent.items()}
    found = None
    if steps > 1:
        return _of_several(entries, last, knows, plain, budget, work)
    if lossless(last) and distortion.masks is None:
        found = _by_magnitude(last, knows, plain, replace(work, progress=part(work.progress, 0, 0.5)))
    if found is not None and len(found.records) < last.records:
        change = joined({name: tensor.double() - plain[name] for name, tensor in last.received.items()})
        known, late = Batch(found.records, found.labels), 0
        while 0 < last.records - len(known.records) <= FEW:
            rest = remaining(known, last, knows, change, work.rng)
            if not len(rest.records):
                break
            known, late = known.and_(rest), len(rest.records)
        new = torch.zeros(len(known.records) - len(found.records), dtype=torch.bool)
        checked = None if found.checked is None else torch.cat([found.checked, new])
        found = replace(found, records=known.records, labels=known.labels, late=late, checked=checked)
    work, whole = replace(work, progress=part(work.progress, 0.5, 1)), found
    if found is None or len(found.records) < last.records:
        try:
            whole = _joined(found, by_classes(entries, last, knows, plain), entries.categories, last.records)
        except ValueError:
            if found is None:
                raise
    assert whole is not None
    claim = _fitted(whole, entries, last, knows, budget, work)
    if found is None or whole is found or bool(claim.verified.any()):
        return claim
    return _fitted(found, entries, last, knows, budget, work)


def _of_several(
    entries: Entries, last: Exchange, knows: Knowledge, plain: dict[str, Tensor], budget: SupportBudget, work: Work
) -> Claim:
    """The claim behind several steps: batch by batch where that explains the update or finds more, else all at once."""
    first, sizes = None, batch_sizes(last.records, knows.batch_size or 1)
    if knows.epochs == 1:
        try:
            first = by_batches(entries, last, knows, plain, sizes)
        except ValueError:
            first = None
    claim = None if first is None else _fitted(first, entries, last, knows, budget, work)
    if claim is not None and bool(claim.verified.any()):
        return claim
    try:
        other = _fitted(by_classes(entries, last, knows, plain), entries, last, knows, budget, work)
    except ValueError:
        if claim is None:
            raise
        return claim
    better = claim is None or bool(other.verified.any()) or 2 * len(claim.records) < len(other.records)
    return other if better or claim is None else claim


def trained_again(last: Exchange, knows: Knowledge, claim: Claim, iterations: int, work: Work) -> Claim:
    """A claim of a whole batch with numbers fitted through the optimizer's unrolled steps, and its mismatch.

    Raises ValueError, in the words of a note, where the training cannot be unrolled.
    """
    budget = SupportBudget(iterations=iterations)
    schema = _applies(last, knows, UNDISTORTED, budget)
    if claim.labels is None or len(claim.records) != last.records:
        raise ValueError("training is unrolled on whole batches with labels only")
    entries = read_entries(last, knows, schema)
    steps = local_steps(knows, last.records) or 1
    plain = joined({name: idle(tensor.double(), knows, steps) for name, tensor in last.sent.items()})
    valid = snap(schema, claim.records.double())
    return _fitted(Found(valid, claim.labels, plain), entries, last, knows, budget, work)


def _applies(last: Exchange, knows: Knowledge, distortion: Distortion, budget: SupportBudget) -> Schema:
    """The schema, where the attack can be run. Raises ValueError with the reason where it cannot."""
    model, reason = knows.model, unusable(last)
    if reason is not None:
        raise ValueError(reason)
    if not isinstance(model, Mlp) or model.bottleneck or model.activation != "relu":
        raise ValueError(
            "the architecture is withheld, or is no perceptron behind whose first layer a ReLU leaves exact zeros"
        )
    if knows.schema is None:
        raise ValueError("the schema is withheld: which inputs are categories is not known")
    if knows.lr is None:
        raise ValueError("the learning rate is withheld, and with it the optimizer")
    if knows.loss != "cross-entropy":
        raise ValueError("the label is a number, and labels are found here for classes only")
    if local_steps(knows, last.records) is None:
        raise ValueError("epochs and batch size are withheld: the number of local steps is not known")
    if not 1 <= last.records <= budget.most_records:
        raise Limit(f"{last.records} records, the attack tries 1 to {budget.most_records}")
    if distortion.spread:
        raise ValueError("noise or rounding on each entry leaves none at rest and no two equal")
    if knows.proximal and local_steps(knows, last.records) != 1:
        raise ValueError("the proximal term pulls each weight by its own distance: no two entries move equally")
    known_network(model, last.sent, knows.schema)
    return knows.schema


def _known(last: Exchange, distortion: Distortion) -> Tensor | None:
    """Entries (h, d) of the first layer that tell of the gradient; None for all."""
    return None if distortion.masks is None else distortion.masks[next(iter(last.sent))]


def _joined(found: Found | None, other: Found, categories: Tensor, count: int) -> Found:
    """The records found in the spans, which are right one by one, and others where they make up a whole batch."""
    if found is None or not len(found.records):
        return other
    theirs, ours = other.records[:, categories], found.records[:, categories]
    new = (torch.cdist(theirs, ours).amin(1) > 0.5).nonzero()[:, 0][: count - len(found.records)]
    if len(found.records) + len(new) < count:
        return found
    records, labels = torch.cat([found.records, other.records[new]]), torch.cat([found.labels, other.labels[new]])
    return Found(records, labels, found.idle)


def _by_magnitude(last: Exchange, knows: Knowledge, plain: dict[str, Tensor], work: Work) -> Found | None:
    """The records found in the spans of a single step's gradient; None where magnitudes are not told."""
    try:
        update = decoded(last, knows, plain)
    except ValueError:
        return None
    as_sgd = replace(knows, optimizer=SGD, momentum=0.0, weight_decay=0.0, proximal=0.0)
    first = next(iter(update.values()))
    noise = RESIDUE * float(first.double().square().mean().sqrt())
    claim = read_records(
        replace(last, received=update), as_sgd, noise, SpanBudget(rounds=ROUNDS, seconds=SPANS), work.rng, work.progress
    )
    if not len(claim.records) or claim.labels is None:
        return None
    return Found(claim.records.double(), claim.labels, joined(plain), claim.verified)


def _fitted(
    found: Found, entries: Entries, last: Exchange, knows: Knowledge, budget: SupportBudget, work: Work
) -> Claim:
    """The claim of the records found, fitted where all of the batch are known."""
    records, notes, unfinished = found.records, list(found.notes), list[str]()
    start, change = joined(last.sent), joined(last.received)
    whole, left = len(records) == last.records, None
    if only_signs(change):
        notes.append("the update has signs and no sizes: numbers are read off the units alone")
    elif whole:
        sizes = [last.records] if knows.algorithm == "fedsgd" else batch_sizes(last.records, knows.batch_size or 1)
        steps = found.steps or (torch.arange(len(records)),) * (local_steps(knows, last.records) or 1)
        course = Course(start, knows.descent, steps, found.labels, class_weights(knows, start))
        problem = Problem(entries, course, change, [] if found.steps else sizes, lossless(last), found.idle)
        again = None
        try:
            again = _trained_again(problem, records, budget, work)
            if found.late == 1:
                # the others' numbers are known now: what they leave tells those of the last one better
                known = Batch(again.records[:-1], found.labels[:-1])
                moved = [c - i for c, i in zip(change, found.idle, strict=True)]
                rest = remaining(known, last, knows, moved, work.rng, FITTED)
                if len(rest.records):
                    again = _trained_again(problem, known.and_(rest).records, budget, work)
        except (ValueError, Limit) as reason:
            notes.append(str(reason))
            unfinished += [str(reason)] if isinstance(reason, Limit) else []
        with clock.finishing():
            again = again or Explained.by(course, records, change)
        records, left = again.records, again.left
    else:
        how = "the units" if found.checked is None else "the gradient's spans"
        notes.append(f"{len(records)} of {last.records} records found: numbers are read off {how}, as a fit needs all")
    explained = left is not None and left <= REPEATED
    if left is not None and not explained:
        notes.append("the training, repeated on the records, does not explain the update: some are wrong")
    confidence = torch.full((len(records),), 0.99 if explained else 0.5)
    checked = torch.full((len(records),), explained, dtype=torch.bool)
    if found.checked is not None and not whole:
        checked = found.checked
    return Claim(
        records.float(), confidence, found.labels, left, tuple(notes), checked=checked, unfinished=tuple(unfinished)
    )


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


def _trained_again(problem: Problem, records: Tensor, budget: SupportBudget, work: Work) -> "Explained":
    """The client's course, and the records with numbers fitted to it. Raises Limit where orders are too many."""
    entries, course = problem.entries, problem.course
    generator = torch.Generator().manual_seed(int(work.rng.integers(2**63)))
    bounds = (entries.low, entries.high)
    draw = problem.drawing(budget.entries, generator)
    best = Explained.by(course, records, problem.change)
    if len(problem.sizes) > 1:
        moved, since = entries.moved.nonzero(), 0
        entry = problem.observed((torch.stack([moved[:, 0], entries.categories[moved[:, 1]]], 1),))
        sole = _sole(entries, records)
        for k in range(ALTERNATIONS if budget.iterations else 1):
            before = course.steps
            for _ in range(2):
                course = next_schedule(course, entry, sole, records, problem.sizes, generator)
            records = fit(course, draw, records, entries.numbers, bounds, min(STRIDES, budget.iterations)).records
            work.progress(k / ALTERNATIONS)
            found = Explained.by(course, records, problem.change)
            since = 0 if found.left < LESS * best.left else since + 1
            best = min(best, found, key=lambda one: one.left)
            same = all(torch.equal(a, b) for a, b in zip(before, course.steps, strict=True))
            if clock.over() or (same and found.left < REPEATED / 2) or since == PATIENCE:
                break
    last = fit(best.course, draw, best.records, entries.numbers, bounds, budget.iterations, work.progress).records
    return min(best, Explained.by(best.course, last, problem.change), key=lambda one: one.left)


@dataclass(frozen=True)
class Explained:
    """A claim's training, and what of the update it leaves."""

    course: Course
    records: Tensor
    """Float64 (n, d)."""
    left: float
    """Distance of the update that the training makes from the one that was seen, relative to its norm."""

    @classmethod
    def by(cls, course: Course, records: Tensor, change: list[Tensor]) -> "Explained":
        """A training with what it leaves of an update (layers of outputs, inputs + 1)."""
        again = replay(course, records)[1]
        apart = sum(float((a - b).square().sum()) for a, b in zip(again, change, strict=True))
        return cls(course, records, float((apart / sum(float(c.square().sum()) for c in change)) ** 0.5))


def _sole(entries: Entries, records: Tensor) -> Tensor:
    """The record that alone reaches each entry that moved, int64 (p,); -1 where several may."""
    tuples = torch.stack([r[entries.categories].nonzero()[:, 0] for r in records])
    explains = explaining(entries, tuples, admitted(admitting(entries), tuples))
    return torch.where(explains.sum(2) == 1, explains.long().argmax(2), -1)[entries.moved]


def only_signs(change: list[Tensor]) -> bool:
    """Whether all entries of a layer's update that moved are of one size, to the last bit."""
    return any(len(torch.unique(layer[:, :-1][layer[:, :-1] != 0].abs())) == 1 for layer in change)
