"""Chooses the tuples that together explain what moved, and their labels."""

import torch
from torch import Tensor

from .entries import Entries
from .half_spaces import excess, numbers_alone
from .tuples import admitted

FITS = 6.0
"""Squared distances beyond half-spaces, summed, up to which a tuple may be a record's: true ones stay below 1 after
several steps and 3 after one (hospital, 8 to 32 records), wrong ones mostly lie far above."""
WIDTH = 0.15
"""Width of the logistic slope, in lengths of the units' weights, by which numbers that are roughly known make a unit
active."""
GAIN = 3.0
"""Entries that a tuple must explain beside those chosen before it."""
SWEEPS = 4
"""Sweeps over the records in which labels are changed one by one, at most."""


def cover(entries: Entries, admits: Tensor, tuples: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The tuples, at most `count` of (k, g), that greedily explain most, their numbers, and the units admitted.

    A tuple explains the entries of its categories that moved at units which are active at it.
    """
    may = admitted(admits, tuples)
    numbers = numbers_alone(entries, tuples, may)
    over = excess(entries, tuples, numbers, may)
    active = (entries.units(tuples, numbers) / entries.length / WIDTH).sigmoid() * may
    hot = torch.zeros(len(tuples), len(entries.group), dtype=active.dtype).scatter_(1, tuples, 1.0)
    left, chosen = entries.moved.to(active.dtype), list[int]()
    worth = torch.where(over <= FITS, 0.0, -torch.inf)
    while len(chosen) < min(count, len(tuples)):
        gain = ((active @ left) * hot).sum(1) - 10 * over + worth
        gain[chosen] = -torch.inf
        best = int(gain.argmax())
        if not gain[best] > GAIN:
            break
        chosen.append(best)
        left = left * (1 - active[best][:, None] * hot[best])
    at = torch.tensor(chosen, dtype=torch.int64)
    return tuples[at], numbers[at], may[at]


def labels_by_sign(change: Tensor, records: Tensor, slopes: Tensor, active: Tensor) -> Tensor:
    """The label of each record, int64 (k,), by which the signs of the first layer's update (h, d) are right most often.

    slopes (classes, k, h) are each record's at the first layer's units, were it of that class; active (k, h). An entry
    that a single record reaches has the sign of its slope alone; the others are then changed one by one.
    """
    wanted = -change.sign()
    share = records.abs() > 0
    alone = (active.T.to(records.dtype) @ share.to(records.dtype) == 1) & (wanted != 0)
    told = (alone[None] & share[:, None] & active[:, :, None]) * wanted
    votes = torch.einsum("khd,ckh,kd->ck", told, slopes.sign(), records.sign())
    labels = votes.argmax(0)
    rows = torch.arange(len(records))
    total = slopes[labels, rows].T @ records
    for _ in range(SWEEPS):
        before = labels.clone()
        for r in range(len(records)):
            rest = total - slopes[labels[r], r][:, None] * records[r]
            tried = [rest + one[r][:, None] * records[r] for one in slopes]
            right = torch.stack([(one.sign() * wanted).sum() for one in tried])
            labels[r] = right.argmax()
            total = tried[int(labels[r])]
        if torch.equal(labels, before):
            break
    return labels
