"""Which batch of each epoch held which record, read off what the entries made of the order.

An entry that a single record reaches has that record's gradient at the steps whose batch held it, and none at the
others; momentum and running means turn the pattern of those steps into a change that is all its own, whatever the
gradient's size. So each record's pattern is found by itself; the slopes that this takes are those of a replay with the
schedule found before, so that a few rounds, between which numbers are fitted, lead to the client's own order.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fedinv.attack import Limit

from .fit import Entry
from .replay import Course, Pass, moves, passed, replay

PATTERNS = 1024
"""Patterns of batches over the epochs that are tried for each record, at most."""
COMPARED = 100
"""Entries that a record alone reaches on which its patterns are compared, at most."""
CUT = 0.3
"""Difference between changes, in learning rates, that counts half as wrong as an infinite one."""


def batch_sizes(records: int, size: int) -> list[int]:
    """Sizes of an epoch's batches: `size` each, and what is left."""
    full, rest = divmod(records, min(size, records))
    return [min(size, records)] * full + ([rest] if rest else [])


def next_schedule(
    course: Course, entry: Entry, sole: Tensor, records: Tensor, sizes: Sequence[int], generator: torch.Generator
) -> Course:
    """The course with other batches of these sizes, on whose replay records (n, d) explain the entries better.

    `sole` (p,) is the record that alone reaches each entry, -1 where there are several. Raises Limit where there
    are too many patterns to try.
    """
    per_epoch, epochs = len(sizes), len(course.steps) // len(sizes)
    if per_epoch**epochs > PATTERNS:
        raise Limit(
            f"{per_epoch} batches in each of {epochs} epochs are too many orders to try: numbers are not fitted"
        )
    everyone = torch.arange(len(records))
    share = torch.tensor([len(records) / size for size in sizes], dtype=records.dtype).repeat(epochs)
    seen = [passed(o.layers, records, course.labels, course.weights, everyone) for o in replay(course, records)[0]]
    parts = torch.stack([_parts(one, entry) for one in seen]) * share[:, None, None]
    weights = entry.of(course.start)
    patterns = torch.tensor(list(itertools.product(range(per_epoch), repeat=epochs)))
    held = torch.nn.functional.one_hot(patterns, per_epoch).flatten(1).to(records.dtype)  # (patterns, T)
    cost = records.new_zeros(len(records), epochs, per_epoch)
    for r in range(len(records)):
        own = (sole == r).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=generator)[:COMPARED]]
        if not len(own):
            continue
        gradients = held.T[:, :, None] * parts[:, r, None, own]
        apart = (moves(course.descent, gradients, weights[own]) - entry.observed[own]).abs() / course.descent.lr
        off = (apart / (apart + CUT)).mean(1)
        for e, b in itertools.product(range(epochs), range(per_epoch)):
            cost[r, e, b] = off[patterns[:, e] == b].min()
    return replace(course, steps=_balanced(cost, sizes))


def _parts(one: Pass, entry: Entry) -> Tensor:
    """Each record's part (n, p) in the gradients of the entries, as if its batch held all records."""
    found = [one.slopes[k][:, at[:, 0]] * one.inputs[k][:, at[:, 1]] for k, at in enumerate(entry.at)]
    return torch.cat(found, 1)


def _balanced(cost: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Batches of these sizes, in order, of least cost (n, epochs, per_epoch), greedily: the surest records first."""
    steps = []
    for own in cost.unbind(1):
        left, batches = list(sizes), [list[int]() for _ in sizes]
        best = own.topk(min(2, own.shape[1]), largest=False).values
        for r in (best[:, -1] - best[:, 0]).argsort(descending=True, stable=True).tolist():
            b = min((b for b in range(len(sizes)) if left[b]), key=lambda b: float(own[r, b]))
            batches[b].append(r)
            left[b] -= 1
        steps += [torch.tensor(sorted(one)) for one in batches]
    return tuple(steps)
