"""Reads the records that a search missed off what the found ones leave of a single step's gradient.

Where all records but m are known, up to some error of their numbers, the gradient less theirs is the sum of m products
d_r [x_r, 1]^T: a matrix of rank m, and of a single one the rows are multiples of the record itself. Large gradients, of
which a step of Adam's tells little, are weighted down, and so is what the known records' errors may have left.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge
from fedinv.task.optimizers import SGD
from fedinv.task.schema import Schema

from ..exact.validity import snap
from ..row_space.reading import read_records
from ..row_space.search import SpanBudget
from .magnitudes import FirstStep, first_step, smoothed
from .replay import joined, passed

SEARCHED, FITTED = 0.02, 2e-4
"""Error of a known record's gradient, relative to it, where its numbers were searched, and where they were fitted."""
ROUGH = 1e-3
"""Noise that what is left is said to have, relative to its root mean square, where several records are searched."""
ROUNDS = 3
"""Rounds without a new record after which that search ends."""
SECONDS = 5.0
"""Seconds of computing of that search."""


@dataclass(frozen=True)
class Batch:
    """Records with their labels."""

    records: Tensor
    """Encoded records, float64 (k, d)."""
    labels: Tensor
    """Classes of the records, int64 (k,)."""

    def and_(self, other: "Batch") -> "Batch":
        """These records, and then those."""
        return Batch(torch.cat([self.records, other.records]), torch.cat([self.labels, other.labels]))


def remaining(
    known: Batch,
    last: Exchange,
    knows: Knowledge,
    change: list[Tensor],
    rng: np.random.Generator,
    doubt: float = SEARCHED,
) -> Batch:
    """The records behind a single step that are missing beside known ones, as far as they are found.

    `change` is the update by layer without what decay alone did, and `doubt` the error of the known records' gradients,
    relative to them. Raises ValueError where the optimizer hides magnitudes.
    """
    step, missing = first_step(knows.descent), last.records - len(known.records)
    assert knows.schema is not None
    if knows.class_weights or missing < 1:
        return Batch(known.records[:0], known.labels[:0])
    start = joined(last.sent)
    left = _left(known, start, step, change, missing, doubt)
    if missing == 1:
        return _single(left[0], start, knows.schema)
    update = {}
    for (weight, bias), layer in zip(_pairs(last), left, strict=True):
        scaled = -step.lr * layer * last.records / missing
        update[weight], update[bias] = scaled[:, :-1].float(), scaled[:, -1].float()
    noise = ROUGH * float(left[0].square().mean().sqrt()) * step.lr
    as_sgd = replace(knows, optimizer=SGD, momentum=0.0, weight_decay=0.0, proximal=0.0)
    rest = Exchange(last.round, last.sent, update, missing)
    claim = read_records(rest, as_sgd, noise, SpanBudget(rounds=ROUNDS, seconds=SECONDS), rng, lambda _: None)
    labels = torch.zeros(0, dtype=torch.int64) if claim.labels is None else claim.labels
    return Batch(claim.records.double()[: len(labels)], labels)


def _pairs(last: Exchange) -> list[tuple[str, str]]:
    names = list(last.received)
    return list(zip(names[::2], names[1::2], strict=True))


def _left(
    known: Batch, start: list[Tensor], step: FirstStep, change: list[Tensor], missing: int, doubt: float
) -> list[Tensor]:
    """What known records leave of each layer's gradient of the mean loss over the batch, the first two smoothed."""
    rows, share = torch.arange(len(known.records)), len(known.records) / (len(known.records) + missing)
    equal = torch.ones(len(start[-1]), dtype=torch.float64)
    theirs = passed(start, known.records, known.labels, equal, rows)
    found = []
    for place, (moved, slopes, inputs) in enumerate(zip(change, theirs.slopes, theirs.inputs, strict=True)):
        gradient = step.gradient(moved)
        rest = gradient - share * slopes.T @ inputs
        if place < 2 and missing < min(rest.shape):
            spread = torch.hypot(step.spread(gradient), doubt * share * (slopes.abs().T @ inputs.abs()))
            rest = smoothed(rest, spread, missing)
        found.append(rest)
    return found


def _single(left: Tensor, start: list[Tensor], schema: Schema) -> Batch:
    """The record behind a matrix of rank 1, (units, inputs + 1), with the label whose slopes its columns are nearest.

    None where its bias is zero, by which its length is known.
    """
    columns, _, rows = torch.linalg.svd(left, full_matrices=False)
    units, row = columns[:, 0], rows[0]
    if not bool(row[-1]):
        return Batch(left[:0, :-1], torch.zeros(0, dtype=torch.int64))
    record = snap(schema, (row[:-1] / row[-1])[None])
    classes = torch.arange(len(start[-1]))
    equal = torch.ones(len(classes), dtype=torch.float64)
    slopes = passed(start, record.expand(len(classes), -1), classes, equal, classes).slopes[0]
    label = (slopes @ units * row[-1]).div(slopes.norm(dim=1).clamp_min(1e-30)).argmax()
    return Batch(record, label[None])
