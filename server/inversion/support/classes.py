"""Finds the records behind an update from the entries that moved equally: all at once, or batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge

from .batches import by_batch
from .cover import cover, labels_by_sign
from .entries import Entries
from .exchange import Search, exchanged
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


@dataclass(frozen=True)
class Seen:
    """What an attacker has of an update."""

    entries: Entries
    """Categorical entries of the first layer."""
    last: Exchange
    knows: Knowledge
    plain: dict[str, Tensor]
    """Change of each parameter by decay alone."""
    masked: bool = False
    """True where some entries were not sent, so that none that rests may be known."""


def by_classes(seen: Seen, search: Search) -> Found:
    """The records found from the entries of all steps. Raises ValueError where there is none."""
    plain = seen.plain
    change = joined({n: t.double() - plain[n] for n, t in seen.last.received.items()})
    # where nothing rests, as behind noise, what moved equally did so by chance
    rests = seen.masked or bool(seen.entries.resting.any())
    records, labels = _read(seen, seen.entries, change[0], search) if rests else (change[0][:0], None)
    if labels is None or not len(records):
        raise ValueError(
            "no entries of the first layer's update moved equally in a way that names a record: none rest, or too many "
            "records have each unit active"
        )
    return Found(records, labels, joined(plain))


def by_batches(seen: Seen, sizes: Sequence[int], search: Search) -> Found:
    """The records of each batch of an epoch, found from the entries that it reached.

    Raises ValueError where the optimizer does not tell the steps apart, or no record is found.
    """
    found = []
    for own, size in zip(by_batch(seen.entries, seen.knows, len(sizes)), sizes, strict=True):
        change = torch.zeros_like(joined(seen.last.sent)[0])
        change[:, own.categories] = own.change
        found.append(_read(seen, own, change, replace(search, count=size)))
    records, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    if not len(records):
        raise ValueError("the entries that a batch alone reached name no record")
    steps = torch.split(torch.arange(len(records)), [len(own) for own, _ in found])
    return Found(records, labels, joined(seen.plain), steps=tuple(steps))


def _read(seen: Seen, entries: Entries, change: Tensor, search: Search) -> tuple[Tensor, Tensor]:
    """The records (k, d) that explain the entries, as many as are wanted or fewer, and their labels (k,).

    The labels are those by which the signs of the first layer's changes (h, d + 1) are right, where they are not zero.
    """
    admits = admitting(entries)
    named = find_tuples(entries, admits).tuples
    tuples, numbers, may = cover(entries, admits, named, search.count)
    if len(tuples):
        numbers = numbers_together(entries, tuples, numbers, may)
    if len(tuples) and search.effort:
        tuples, numbers = exchanged(entries, admits, (tuples, numbers), named, search)
    records, start = entries.records(tuples, numbers), joined(seen.last.sent)
    weights = class_weights(seen.knows, start)
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
