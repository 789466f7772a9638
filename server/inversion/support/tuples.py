"""Finds records' tuples of categories from the entries that moved equally.

At a unit the entries that moved equally form classes, each the categories of one set of records among those at which
the unit is active. Two classes that share a column (by different categories of it) stand for sets without a common
record. So a record of categories t can have the unit active only if all entries of t moved and no two of their classes
share a column: then the unit `admits` t. A class that names several columns is a partial tuple, and the other columns
are read off the units where that class comes back: whatever the record has must be admitted at every one of them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import clock
from .entries import Entries

LEAST = 3
"""Columns that a class must name to be a seed."""
SEEDS = 600
"""Seeds that are completed at most, those that name the rarest categories first."""
SLIP = 0.02
"""Chance that a record's own entry is not admitted at a unit, as rounding or coincidence split or joined a class."""
SURE = 3.0
"""Margin of a column's choice, in natural logarithms of odds, from which on it counts as sure."""


@dataclass(frozen=True)
class Tuples:
    """k tuples of categories, those found from the most seeds first."""

    tuples: Tensor
    """Positions in `Entries.categories`, one of each column, int64 (k, g)."""
    seeds: Tensor
    """Number of seeds from which each was completed, int64 (k,)."""
    margin: Tensor
    """Largest sum over the columns of each choice's margin, at most SURE each, (k,)."""


def admitting(entries: Entries) -> Tensor:
    """Pairs of entries of a unit that one record may have, both active there, bool (h, c, c)."""
    columns = torch.nn.functional.one_hot(entries.group, entries.groups).float()
    named = (entries.equal.float() @ columns > 0).float()
    share = (named @ named.mT > 0) & ~entries.equal
    possible = ~entries.resting
    return possible[:, :, None] & possible[:, None, :] & ~share


def admitted(admits: Tensor, tuples: Tensor) -> Tensor:
    """Units (k, h) that may be active at records of tuples (k, g), given the pairs that are admitted (h, c, c)."""
    found = [admits[:, t][:, :, t].flatten(1).all(1) for t in tuples]
    return torch.stack(found) if found else torch.zeros(0, len(admits), dtype=torch.bool)


def find_tuples(entries: Entries, admits: Tensor) -> Tuples:
    """Complete the classes that name the most and rarest categories, each by itself."""
    base = entries.moved.double().mean(0).clamp(1e-3, 1 - 1e-3)
    counts = _seeds(entries)
    worth = {s: -float(base[list(s)].log().sum()) + 0.3 * len(s) + 0.2 * math.log(k) for s, k in counts.items()}
    found: dict[tuple[int, ...], list[float]] = {}
    for seed in sorted(worth, key=lambda s: (-worth[s], s))[:SEEDS]:
        if clock.over():
            break
        whole, margin = _completed(entries, admits, base, list(seed))
        found.setdefault(whole, []).append(margin)
    order = sorted(found, key=lambda t: (-len(found[t]), -max(found[t]), t))
    return Tuples(
        torch.tensor(order, dtype=torch.int64).reshape(len(order), entries.groups),
        torch.tensor([len(found[t]) for t in order], dtype=torch.int64),
        torch.tensor([max(found[t]) for t in order], dtype=torch.float64),
    )


def _seeds(entries: Entries) -> dict[tuple[int, ...], int]:
    """The classes that name LEAST columns or more, and the number of units at which each is found."""
    first = entries.equal.double().argmax(2) == torch.arange(len(entries.group))  # one row for each class
    rows = entries.equal[first & (entries.equal.sum(2) >= min(LEAST, entries.groups))]
    kinds, counts = torch.unique(rows, dim=0, return_counts=True)
    return {tuple(k.nonzero()[:, 0].tolist()): int(n) for k, n in zip(kinds, counts, strict=True)}


def _completed(entries: Entries, admits: Tensor, base: Tensor, seed: list[int]) -> tuple[tuple[int, ...], float]:
    """A seed's other columns, the surest first; and the sum of the choices' margins.

    Of a column the category is chosen that is most probable given how often each one is admitted where the seed's
    entries moved equally: a record's own always is, any other by chance as often as its entries move at all.
    """
    units = entries.equal[:, seed[0]][:, seed].all(1)
    admitted_here = admits[units][:, :, seed].all(2)
    equal_here = entries.equal[units][:, seed[0]]
    chosen = {int(entries.group[i]): i for i in seed}
    prior, total = (entries.frequencies + 1e-3).log(), 0.0
    while len(chosen) < entries.groups:
        passes, n = admitted_here.double().mean(0).nan_to_num(), len(admitted_here)
        odds = prior + n * ((1 - passes) * math.log(SLIP) - passes * base.log()) + 2.0 * equal_here.sum(0)
        best = (0, 0, -math.inf)
        for column in range(entries.groups):
            if column in chosen:
                continue
            own = (entries.group == column).nonzero()[:, 0]
            top = odds[own].topk(min(2, len(own)))
            margin = float(top.values[0] - top.values[1]) if len(own) > 1 else math.inf
            if margin > best[2]:
                best = (column, int(own[top.indices[0]]), margin)
        column, category, margin = best
        chosen[column], total = category, total + min(margin, SURE)
        kept = admitted_here[:, category]
        if bool(kept.any()):
            admitted_here = admitted_here[kept] & admits[units.nonzero()[:, 0][kept]][:, :, category]
            equal_here = equal_here[kept]
            units = torch.zeros_like(units).index_fill(0, units.nonzero()[:, 0][kept], True)
    return tuple(chosen[g] for g in range(entries.groups)), total
