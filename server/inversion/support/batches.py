"""Tells which batch reached an entry, where an epoch of several has each record in one of them.

An optimizer that rescales entries makes nearly the same change of every entry that step t alone reaches, whatever the
gradient's size: c_t learning rates, less a deficit of some eps / |g|. Adam's momentum goes on behind a step and its
running means forget, so that c_t is another for each t; behind two steps 1.67 and 0.74. Where the sizes lie apart, an
entry near c_t was reached by batch t alone and rests for all others, and of two batches every other entry that moved
was reached by both. So each batch has its own entries, as if it had been the only one, but for some that are not known.
"""

from dataclasses import replace

import torch
from torch import Tensor

from fedinv.attack import Knowledge
from fedinv.task.optimizers import LocalDescent

from .entries import Entries, drift, single
from .replay import moves

LARGE, LEAST = 1.0, 1e-5
"""Gradients between which a change counts as made by one step alone: 2 % of the entries that a batch of 8 alone reaches
have smaller ones."""
NARROW = 0.01
"""Largest share of a change by which it may differ between those gradients, for its size to name the step."""


def by_batch(entries: Entries, knows: Knowledge, batches: int) -> list[Entries]:
    """The entries of each of the batches of a single epoch, in order, and of each the change where it alone made it.

    `change` is zero where another batch reached the entry as well. Raises ValueError where an epoch of the optimizer
    does not tell its steps apart, or nothing rests, as where noise reaches all entries at each step.
    """
    if not bool(entries.resting.any()):
        raise ValueError("no entry rests: every batch reached all of them")
    low, high = sizes(knows.descent, batches)
    size, order = entries.change.abs(), low.argsort()
    if bool((high - low > NARROW * high).any()) or bool((low[order][1:] <= high[order][:-1]).any()):
        raise ValueError("the optimizer's changes do not tell the steps of an epoch apart")
    alone = torch.stack(
        [(size >= a - entries.room) & (size <= b + entries.room) for a, b in zip(low, high, strict=True)]
    )
    alone &= entries.moved
    several = entries.moved & ~alone.any(0)
    return [_of(entries, alone, several, batch, drift(knows, batch)) for batch in range(batches)]


def sizes(descent: LocalDescent, steps: int) -> tuple[Tensor, Tensor]:
    """The least and the largest change (T,) of an entry that only one of T steps reaches, by the step."""
    gradients = torch.eye(steps, dtype=torch.float64)[:, :, None] * torch.tensor([LEAST, LARGE], dtype=torch.float64)
    found = moves(descent, gradients, torch.zeros(2, dtype=torch.float64)).abs()
    return found.amin(1), found.amax(1)


def _of(entries: Entries, alone: Tensor, several: Tensor, batch: int, drifted: float) -> Entries:
    """The entries of one batch. Of more than two it is not known which of them reached an entry of several."""
    own, others = alone[batch], alone.any(0) & ~alone[batch]
    moved = own | several if len(alone) == 2 else own
    resting = entries.resting | others
    # of equal changes by several batches the sets of records are the same in each
    known = several | torch.zeros_like(own)
    pair = known[:, :, None] & known[:, None, :]
    itself = torch.eye(len(entries.group), dtype=torch.bool) & moved[:, :, None]
    return replace(
        entries,
        change=entries.change * own,
        moved=moved,
        resting=resting,
        equal=(entries.equal & pair) | itself | single(moved, resting, entries.group),
        margin=drifted * entries.length,
    )
