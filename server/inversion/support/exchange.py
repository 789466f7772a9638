"""Exchanges categories of records, one by one, until they explain together what moved.

What records leave is a sum of squared distances, in lengths of the units' weights: of each record beyond the
half-spaces of units that must be inactive at it, and of each entry that moved from being explained by the nearest
record that has its class and is active, FAR at most. True records leave little, and wrong or missing ones several times
as much (46 to 88 and 117 to 425 for 12 records of a batch, hospital). So tuples that the classes completed wrongly are
mended, and records that no class named are found where the others leave most.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import clock
from .entries import Entries
from .half_spaces import numbers_alone, numbers_together

FAR = 0.5
"""Distance of an entry from being explained at most, in lengths of the unit's weights."""
LEFT = 0.04
"""Squared distance from which on an entry counts as left over where the search for a missing record starts."""
STARTS = 12
"""Tuples drawn for each missing record, beside those that the classes named."""
KEPT = 4
"""Number of them, the best, that are improved by more than one change."""
TRIED = 2
"""Changes, the best by the numbers as they are, whose numbers are fitted anew."""
SWEEPS = 8
"""Changes of one tuple in a row, at most."""
ROUNDS = 8
"""Rounds over all records, at most."""
WEAKEST = 2
"""One in so many records, those that explain least, is looked for anew."""
GAIN = 1.0
"""What a further record must explain."""
BETTER = 0.02
"""Share of what a record explains by which a changed one must explain more."""


@dataclass(frozen=True)
class Search:
    """How records are searched."""

    count: int
    """Records that are wanted."""
    generator: torch.Generator
    effort: int = 1
    """0 takes tuples as the classes name them, 1 exchanges categories, 2 looks for records that explain little anew,
    which takes three times as long."""


@dataclass(frozen=True)
class Pairs:
    """What a unit's pairs of entries tell of a record that has both."""

    entries: Entries
    barred: Tensor
    """Pairs of entries that no record has at which the unit is active, 0 or 1, float32 (h, c, c)."""
    equal: Tensor
    """Pairs that moved equally, 0 or 1, float32 (h, c, c)."""
    size: Tensor
    """Number of entries that moved equally with each, (h, c)."""

    @classmethod
    def of(cls, entries: Entries, admits: Tensor) -> "Pairs":
        """The pairs of entries of which `admits` (h, c, c) may be one record's."""
        equal = entries.equal.float()
        return cls(entries, (~admits).float(), equal, equal.sum(2))

    def records(self, tuples: Tensor, numbers: Tensor | None = None) -> "Records":
        """Records of tuples (k, g), with numbers (k, m), or those that fit each tuple by itself."""
        may = self.barred[:, tuples[:, :, None], tuples[:, None]].sum((2, 3)).T == 0
        whole = self.equal[:, tuples[:, :, None], tuples[:, None]].sum(3) == self.size[:, tuples]
        explains = whole & self.entries.moved[:, tuples] & may.T[:, :, None]
        if numbers is None:
            numbers = numbers_alone(self.entries, tuples, may, SWEEPS)
        return Records(tuples, numbers, may, explains.transpose(0, 1))


@dataclass(frozen=True)
class Records:
    """k records as tuples of categories and numbers."""

    tuples: Tensor
    """Positions in `Entries.categories`, one of each column, int64 (k, g)."""
    numbers: Tensor
    """Standardized numbers, float64 (k, m)."""
    may: Tensor
    """Units that may be active at each, bool (k, h)."""
    explains: Tensor
    """Entries of each whose class it has whole, at units that may be active, bool (k, h, g)."""

    def __len__(self) -> int:
        return len(self.tuples)

    def at(self, rows: Tensor) -> "Records":
        """The records at these places."""
        return Records(self.tuples[rows], self.numbers[rows], self.may[rows], self.explains[rows])

    def and_(self, other: "Records") -> "Records":
        """These records, and then those."""
        return Records(
            torch.cat([self.tuples, other.tuples]),
            torch.cat([self.numbers, other.numbers]),
            torch.cat([self.may, other.may]),
            torch.cat([self.explains, other.explains]),
        )

    def with_(self, places: Tensor, other: "Records") -> "Records":
        """These records with others at some places."""
        return Records(
            self.tuples.index_copy(0, places, other.tuples),
            self.numbers.index_copy(0, places, other.numbers),
            self.may.index_copy(0, places, other.may),
            self.explains.index_copy(0, places, other.explains),
        )


def exchanged(
    entries: Entries, admits: Tensor, first: tuple[Tensor, Tensor], named: Tensor, search: Search
) -> tuple[Tensor, Tensor]:
    """Tuples (k, g) with numbers (k, m), as many as are wanted or fewer, that explain more than the `first` did.

    Tuples `named` (n, g) are among those tried.
    """
    pairs = Pairs.of(entries, admits)
    pool, found = pairs.records(named), pairs.records(*first)
    for _ in range(ROUNDS):
        before = found.tuples
        while len(found) < search.count and not clock.over():
            further = _further(pairs, left_by(pairs, found), pool, search.generator)
            if further is None:
                break
            found = found.and_(further)
        found = _together(pairs, found)
        for place in range(len(found)):
            found = _mended(pairs, found, place, pool)
        found = _together(pairs, found)
        if search.effort > 1 and torch.equal(found.tuples, before):
            found = _shaken(pairs, found, pool, search.generator)
        if torch.equal(found.tuples, before) or clock.over():
            break
    return found.tuples, found.numbers


def _shaken(pairs: Pairs, records: Records, pool: Records, generator: torch.Generator) -> Records:
    """Records of which those that explain least beside all others, the likeliest to be wrong, are looked for anew."""
    found = records
    own = [
        costs(pairs, records.at(torch.tensor([place])), left_by(pairs, records, but=place))
        for place in range(len(records))
    ]
    for place in torch.cat(own).argsort(descending=True)[: -(-len(found) // WEAKEST)].tolist():
        further = _further(pairs, left_by(pairs, found, but=place), pool, generator)
        found = found if further is None else _mended(pairs, found, place, further)
    return found


def left_by(pairs: Pairs, records: Records, but: int | None = None) -> Tensor:
    """Squared distance of each entry that moved from being explained by records, all but one, (h, c)."""
    left, short = FAR**2 * pairs.entries.moved.double(), _short(pairs, records)
    for place, own in enumerate(records.tuples):
        if place != but:
            nearer = torch.minimum(left[:, own], short[place][:, None])
            left[:, own] = torch.where(records.explains[place], nearer, left[:, own])
    return left


def costs(pairs: Pairs, records: Records, left: Tensor) -> Tensor:
    """Distance of each record beyond half-spaces less what it explains of what others leave (h, c), (k,)."""
    entries = pairs.entries
    over = (entries.units(records.tuples, records.numbers) - entries.margin).clamp_min(0) / entries.length
    more = (left[:, records.tuples].transpose(0, 1) - _short(pairs, records)[:, :, None]).clamp_min(0)
    return (over * ~records.may).square().sum(1) - (more * records.explains).sum((1, 2))


def costs_of_changes(pairs: Pairs, records: Records, left: Tensor) -> Tensor:
    """The same with any one category in place of the record's own of its column, and its numbers, (k, c)."""
    entries, tuples = pairs.entries, records.tuples
    hot = torch.zeros(len(tuples), len(entries.group)).scatter_(1, tuples, 1.0)
    column, every = entries.group, torch.arange(len(entries.group))
    replaced = tuples[:, column]  # (k, c): what a category would replace
    barred, alike = pairs.barred @ hot.T, pairs.equal @ hot.T  # (h, c, k): of each category with the record's
    own = barred[:, tuples, torch.arange(len(tuples))[:, None]]  # (h, k, g)
    itself = pairs.barred.diagonal(dim1=1, dim2=2)
    rest = own.sum(2)[:, :, None] - 2 * own + itself[:, tuples]
    new = barred.mT - pairs.barred[:, every, replaced] + itself[:, None]
    may = rest[:, :, column] + new == 0  # (h, k, c)
    height = entries.units(tuples, records.numbers).T[:, :, None]
    weight = entries.weight[:, entries.categories]
    height = (height + weight[:, None] - weight[:, replaced]) / entries.length[:, None, None]
    over = ((height - (entries.margin / entries.length)[:, None, None]).clamp_min(0) * ~may).square().sum(0)
    short = (-height).clamp(0, FAR).square()
    # the category itself, and then what the record keeps
    whole = alike.mT - pairs.equal[:, every, replaced] + 1 == pairs.size[:, None]
    explained = ((left[:, None] - short).clamp_min(0) * (whole & may)).sum(0)
    own = alike[:, tuples, torch.arange(len(tuples))[:, None]]
    for place in range(tuples.shape[1]):
        kept = tuples[:, place]
        whole = own[:, :, place, None] - pairs.equal[:, kept[:, None], replaced] + pairs.equal[:, kept]
        good = (whole == pairs.size[:, kept, None]) & may & (column != place)
        explained += ((left[:, kept, None] - short).clamp_min(0) * good).sum(0)
    return torch.where(hot > 0, torch.inf, over - explained)


def _short(pairs: Pairs, records: Records) -> Tensor:
    """Squared distance of each unit from being active at records, FAR**2 at most, (k, h)."""
    entries = pairs.entries
    found: Tensor = (-entries.units(records.tuples, records.numbers) / entries.length).clamp(0, FAR).square()
    return found


def _together(pairs: Pairs, records: Records) -> Records:
    """Records with the numbers that explain most together."""
    return replace(records, numbers=numbers_together(pairs.entries, records.tuples, records.numbers, records.may))


def _mended(pairs: Pairs, records: Records, place: int, pool: Records) -> Records:
    """The records with a better one at a place, if a change of it, or of one of the pool, explains more."""
    here, left = torch.tensor([place]), left_by(pairs, records, but=place)
    tried = records.at(here).and_(pool)
    cost = costs(pairs, tried, left)
    changed, reached = _improved(pairs, tried.at(cost.argmin()[None]), left)
    return records.with_(here, changed) if float(reached) < float(cost[0] - BETTER * cost[0].abs()) else records


def _improved(pairs: Pairs, records: Records, left: Tensor, sweeps: int = SWEEPS) -> tuple[Records, Tensor]:
    """Each of k records changed by one category at a time while that lowers its cost, and the costs (k,)."""
    found, cost, k = records, costs(pairs, records, left), len(records)
    for _ in range(sweeps):
        best = costs_of_changes(pairs, found, left).topk(TRIED, largest=False).indices.flatten()
        tuples = found.tuples.repeat_interleave(TRIED, 0)
        tuples[torch.arange(len(best)), pairs.entries.group[best]] = best
        fitted = pairs.records(tuples)
        tried = replace(fitted, numbers=found.numbers.repeat_interleave(TRIED, 0)).and_(fitted)
        least, which = costs(pairs, tried, left).view(2, k, TRIED).transpose(0, 1).flatten(1).min(1)
        better = least < cost - 1e-6
        if not bool(better.any()) or clock.over():
            break
        up = better.nonzero()[:, 0]
        found = found.with_(up, tried.at(((which // TRIED * k + torch.arange(k)) * TRIED + which % TRIED)[up]))
        cost = torch.where(better, least, cost)
    return found, cost


def _further(pairs: Pairs, left: Tensor, pool: Records, generator: torch.Generator) -> Records | None:
    """One record more, which explains most of what others leave (h, c); None where none explains GAIN."""
    drawn = _drawn(pairs, left, generator)
    if not len(drawn):
        return None
    tried, cost = _improved(pairs, pairs.records(drawn).and_(pool), left, 1)
    tried, cost = _improved(pairs, tried.at(cost.argsort()[:KEPT]), left)
    return tried.at(cost.argmin()[None]) if float(cost.min()) < -GAIN else None


def _drawn(pairs: Pairs, left: Tensor, generator: torch.Generator) -> Tensor:
    """Tuples (k, g) to start from: an entry that is left over, and what else is left where its category is."""
    entries, over = pairs.entries, (left > LEFT).double()
    at = over.nonzero()
    if not len(at):
        return torch.zeros(0, entries.groups, dtype=torch.int64)
    units, categories = at[torch.randint(len(at), (STARTS,), generator=generator)].T
    weight = over.T[categories] @ over + 0.1 * entries.frequencies
    weight = weight * (1 - pairs.barred[units, categories] + 1e-3)
    columns = []
    for column in range(entries.groups):
        own = (entries.group == column).nonzero()[:, 0]
        chosen = own[torch.multinomial(weight[:, own] + 1e-9, 1, generator=generator)[:, 0]]
        columns.append(torch.where(entries.group[categories] == column, categories, chosen))
    found: Tensor = torch.unique(torch.stack(columns, 1), dim=0)
    return found
