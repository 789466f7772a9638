"""Finds the records behind an update from the entries that moved equally: all at once, or batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge

from .batches import by_batch
from .cover import cover, labels_by_sign
from .entries import Entries
from .half_spaces import numbers_together
from .replay import joined, passed
from .tuples import admitting, find_tuples


@dataclass(frozen=True)
class Found:
    """Records before their numbers are fitted."""

    records: Tensor
    """Float64 (k, d)."""
    labels: Tensor
    """Classes, int64 (k,)."""
    idle: list[Tensor]
    """Changes by decay alone, by layer."""
    checked: Tensor | None = None
    """Which of them were verified one by one, bool (k,); None where only all together can be."""
    late: int = 0
    """Number of those read last off what the others leave of the gradient."""
    steps: tuple[Tensor, ...] = ()
    """Positions of each local step's records; empty where they are not known."""
    notes: tuple[str, ...] = ()


def by_classes(entries: Entries, last: Exchange, knows: Knowledge, plain: dict[str, Tensor]) -> Found:
    """The records found from the entries of all steps. Raises ValueError where there is none."""
    change = joined({n: t.double() - plain[n] for n, t in last.received.items()})
    records, labels = _read(entries, last, knows, last.records, change[0])
    if not len(records):
        raise ValueError(
            "no entries of the first layer's update moved equally in a way that names a record: none rest, or too many "
            "records have each unit active"
        )
    return Found(records, labels, joined(plain))


def by_batches(
    entries: Entries, last: Exchange, knows: Knowledge, plain: dict[str, Tensor], sizes: Sequence[int]
) -> Found:
    """The records of each batch of an epoch, found from the entries that it reached.

    Raises ValueError where the optimizer does not tell the steps apart, or no record is found.
    """
    found = []
    for own, size in zip(by_batch(entries, knows, len(sizes)), sizes, strict=True):
        change = torch.zeros_like(joined(last.sent)[0])
        change[:, entries.categories] = own.change
        found.append(_read(own, last, knows, size, change))
    records, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    if not len(records):
        raise ValueError("the entries that a batch alone reached name no record")
    return Found(records, labels, joined(plain), steps=torch.arange(len(records)).split([len(r) for r, _ in found]))


def _read(
    entries: Entries, last: Exchange, knows: Knowledge, count: int, change: Tensor
) -> tuple[Tensor, Tensor]:
    """At most `count` records (k, d) that explain the entries, and their labels (k,).

    The labels are those by which the signs of the first layer's changes (h, d + 1) are right, where they are not zero.
    """
    admits = admitting(entries)
    tuples, numbers, may = cover(entries, admits, find_tuples(entries, admits).tuples, count)
    numbers = numbers_together(entries, tuples, numbers, may)
    records, start = entries.records(tuples, numbers), joined(last.sent)
    weights = class_weights(knows, start)
    rows = torch.arange(len(records))
    slopes = torch.stack(
        [passed(start, records, torch.full_like(rows, y), weights, rows).slopes[0] for y in range(len(weights))]
    )
    with_bias = torch.cat([records, torch.ones_like(records[:, :1])], 1)
    return records, labels_by_sign(change, with_bias, slopes, entries.units(tuples, numbers) > 0)


def class_weights(knows: Knowledge, start: list[Tensor]) -> Tensor:
    """Weight of each class in the loss, (classes,), float64."""
    weights = torch.tensor(knows.class_weights) if knows.class_weights else torch.ones(len(start[-1]))
    return weights.double()
