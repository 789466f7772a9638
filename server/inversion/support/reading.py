"""Claims the records behind an update of any optimizer that works entry by entry."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import EXPLAINS, Claim, Exchange, Knowledge, Progress
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers import SGD
from fedinv.task.schema import Schema

from .. import clock
from ..distortion import Distortion
from ..evidence import unusable
from ..local_training import known_network, local_steps
from ..matching.optimize import part
from ..row_space.reading import read_records
from ..row_space.search import SpanBudget
from .cover import cover, labels_by_sign
from .entries import Entries, idle, lossless, read_entries
from .fit import Entry, fit, pick
from .half_spaces import numbers_together
from .magnitudes import ROUNDING, decoded
from .replay import Course, joined, passed, replay
from .tuples import admitting, find_tuples

RESIDUE = 3e-6
"""Noise that a smoothed gradient is said to have, relative to its root mean square: enough for the search to accept
what is not exact."""
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
class Found:
    """Records before their numbers are fitted."""

    records: Tensor
    """Float64 (k, d)."""
    labels: Tensor
    """Classes, int64 (k,)."""
    notes: tuple[str, ...] = ()


def read_support(
    last: Exchange,
    knows: Knowledge,
    distortion: Distortion,
    budget: SupportBudget,
    rng: np.random.Generator,
    progress: Progress,
) -> Claim:
    """Claim records with labels. Raises ValueError, in the words of a note, where nothing can be claimed."""
    schema = _applies(last, knows, distortion, budget)
    entries = read_entries(last, knows, schema, _known(last, distortion))
    plain = {
        name: idle(tensor.double(), knows, local_steps(knows, last.records) or 1) for name, tensor in last.sent.items()
    }
    found = None
    if local_steps(knows, last.records) == 1 and lossless(last) and distortion.masks is None:
        found = _by_magnitude(last, knows, plain, rng, part(progress, 0, 0.5))
    if found is None or len(found.records) < last.records:
        other = _by_classes(entries, last, knows, plain)
        found = other if found is None or len(other.records) > len(found.records) else found
    return _fitted(found, entries, last, knows, plain, budget, rng, part(progress, 0.5, 1))


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
        raise ValueError(f"{last.records} records, the attack tries 1 to {budget.most_records}")
    if distortion.spread:
        raise ValueError("noise or rounding on each entry leaves none at rest and no two alike")
    if knows.proximal and local_steps(knows, last.records) != 1:
        raise ValueError("the proximal term pulls each weight by its own distance: no two entries move alike")
    known_network(model, last.sent, knows.schema)
    return knows.schema


def _known(last: Exchange, distortion: Distortion) -> Tensor | None:
    """Entries (h, d) of the first layer that tell of the gradient; None for all."""
    return None if distortion.masks is None else distortion.masks[next(iter(last.sent))]


def _by_magnitude(
    last: Exchange, knows: Knowledge, plain: dict[str, Tensor], rng: np.random.Generator, progress: Progress
) -> Found | None:
    """The records found in the spans of a single step's gradient; None where magnitudes are not told."""
    try:
        update = decoded(last, knows, plain)
    except ValueError:
        return None
    as_sgd = replace(knows, optimizer=SGD, momentum=0.0, weight_decay=0.0, proximal=0.0)
    first = next(iter(update.values()))
    noise = RESIDUE * float(first.double().square().mean().sqrt())
    claim = read_records(replace(last, received=update), as_sgd, noise, SpanBudget(seconds=SPANS), rng, progress)
    if not len(claim.records) or claim.labels is None:
        return None
    return Found(claim.records.double(), claim.labels)


def _by_classes(entries: Entries, last: Exchange, knows: Knowledge, plain: dict[str, Tensor]) -> Found:
    """The records found from the entries that moved alike. Raises ValueError where there is none."""
    admits = admitting(entries)
    found = find_tuples(entries, admits)
    tuples, numbers, may = cover(entries, admits, found.tuples, last.records)
    if not len(tuples):
        raise ValueError(
            "no entries of the first layer's update moved alike in a way that names a record: none rest, or too many "
            "records have each unit active"
        )
    numbers = numbers_together(entries, tuples, numbers, may)
    records = entries.records(tuples, numbers)
    start, change = joined(last.sent), joined({n: t.double() - plain[n] for n, t in last.received.items()})
    weights = _class_weights(knows, start)
    rows = torch.arange(len(records))
    slopes = torch.stack(
        [passed(start, records, torch.full_like(rows, y), weights, rows).slopes[0] for y in range(len(weights))]
    )
    with_bias = torch.cat([records, torch.ones_like(records[:, :1])], 1)
    labels = labels_by_sign(change[0], with_bias, slopes, entries.units(tuples, numbers) > 0)
    return Found(records, labels)


def _class_weights(knows: Knowledge, start: list[Tensor]) -> Tensor:
    weights = torch.tensor(knows.class_weights) if knows.class_weights else torch.ones(len(start[-1]))
    return weights.double()


def _fitted(
    found: Found,
    entries: Entries,
    last: Exchange,
    knows: Knowledge,
    plain: dict[str, Tensor],
    budget: SupportBudget,
    rng: np.random.Generator,
    progress: Progress,
) -> Claim:
    """The claim of the records found, fitted where all of the batch are known."""
    records, labels, notes = found.records, found.labels, list(found.notes)
    start, change = joined(last.sent), joined(last.received)
    steps = local_steps(knows, last.records) or 1
    whole = len(records) == last.records
    per_epoch = 1 if knows.algorithm == "fedsgd" else steps // (knows.epochs or 1)
    course = Course(start, knows.descent, (torch.arange(len(records)),) * steps, labels, _class_weights(knows, start))
    if whole and per_epoch == 1 and budget.iterations:
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        moved = joined({n: t.double() - plain[n] for n, t in last.received.items()})
        at = pick([m != 0 for m in moved], budget.entries, entries.numbers, generator)
        entry = Entry(at, torch.zeros(0), torch.zeros(0))
        observed, size = entry.of(change), entry.of(start).abs()
        spread = ROUNDING * observed.abs() / 2
        if not lossless(last):
            spread = spread + HALF_ULP * (size + observed.abs()) * steps**0.5
        entry = Entry(at, observed, spread.clamp_min(1e-30))
        bounds = (entries.low, entries.high)
        fitted = fit(course, entry, records, entries.numbers, bounds, budget.iterations, progress)
        records = fitted.records
    elif not whole:
        notes.append(f"{len(records)} of {last.records} records found: without the others numbers are not fitted")
    with clock.finishing():
        left = _mismatch(course, records, change)
    explained = left <= EXPLAINS and whole
    confidence = torch.full((len(records),), 0.99 if explained else 0.5)
    checked = torch.full((len(records),), explained, dtype=torch.bool)
    return Claim(records.float(), confidence, labels, left if whole else None, tuple(notes), checked=checked)


def _mismatch(course: Course, records: Tensor, change: list[Tensor]) -> float:
    """Distance of the update that a training makes from the one that was seen, relative to its norm."""
    again = replay(course, records)[1]
    apart = sum(float((a - b).square().sum()) for a, b in zip(again, change, strict=True))
    return float((apart / sum(float(c.square().sum()) for c in change)) ** 0.5)
