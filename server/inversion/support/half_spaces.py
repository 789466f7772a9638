"""Numbers of records whose categories are known, from the units that must be active or inactive at them.

Unit j is active at record x where w_j x + b_j > 0: with the categories fixed, a half-space of the numbers. A unit that
does not admit a record is inactive at it; one with a class of entries that no other record explains is active. The
numbers are the middle of what all of these leave: the maximum of a logistic likelihood whose slope is sharpened.
"""

import torch
from torch import Tensor

from .entries import Entries

RIDGE = 0.02
"""Precision of the prior of each number: standard normal numbers are drawn to zero by this much."""
TEMPERATURES = (0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.03, 0.03, 0.03)
"""Widths of the logistic slope, in lengths of the units' weights, one after the other."""
STRIDE = 0.5
"""Largest change of a number in one Newton step, in standard deviations."""


def excess(entries: Entries, tuples: Tensor, numbers: Tensor, admitted: Tensor) -> Tensor:
    """Squared distances beyond the half-spaces of units that must be inactive, summed, (k,)."""
    over = (entries.units(tuples, numbers) - entries.margin).clamp_min(0) / entries.length
    return (over * ~admitted).square().sum(1)


def numbers_alone(entries: Entries, tuples: Tensor, admitted: Tensor, steps: int = 12, ridge: float = 1e-3) -> Tensor:
    """Numbers (k, m) of each tuple by itself: Newton steps on the excess, as near to the mean as it allows."""
    scaled = entries.weight[:, entries.numbers] / entries.length[:, None]
    x = scaled.new_zeros(len(tuples), scaled.shape[1])
    eye = torch.eye(scaled.shape[1], dtype=x.dtype)
    for _ in range(steps if x.shape[1] else 0):
        over = ((entries.units(tuples, x) - entries.margin) / entries.length).clamp_min(0) * ~admitted
        curve = torch.einsum("kh,hm,hn->kmn", (over > 0).to(x.dtype), scaled, scaled) + ridge * eye
        x = x - torch.linalg.solve(curve, over @ scaled + ridge * x)
        x = x.clamp(entries.low, entries.high)
    return x


def needed(entries: Entries, tuples: Tensor, numbers: Tensor, admitted: Tensor) -> Tensor:
    """Units (k, h) that must be active at each of a batch's records: of those that explain a class, the likeliest."""
    explains = explaining(entries, tuples, admitted)
    height = (entries.units(tuples, numbers) / entries.length).T[:, None]
    best = torch.where(explains, height, -torch.inf).max(2)
    chosen = torch.nn.functional.one_hot(best.indices, len(tuples)) * best.values.isfinite()[:, :, None]
    return chosen.any(1).T


def explaining(entries: Entries, tuples: Tensor, admitted: Tensor) -> Tensor:
    """Records that may be behind each entry that moved, bool (h, c, k): those that have all categories of its class."""
    hot = torch.zeros(len(tuples), len(entries.group)).scatter_(1, tuples, 1.0)
    explains = (entries.equal.float() @ (1 - hot).T == 0) & (hot.T > 0) & entries.moved[:, :, None]
    return explains & admitted.T[:, None]


def numbers_together(entries: Entries, tuples: Tensor, numbers: Tensor, admitted: Tensor) -> Tensor:
    """Numbers (k, m) of a batch's records, started from others, so that together they explain what moved."""
    scaled = entries.weight[:, entries.numbers] / entries.length[:, None]
    eye = torch.eye(scaled.shape[1], dtype=scaled.dtype)
    x = numbers
    for width in TEMPERATURES if x.shape[1] else ():
        need = needed(entries, tuples, x, admitted)
        known = (need | ~admitted).to(x.dtype)
        for _ in range(3):
            chance = (entries.units(tuples, x) / entries.length / width).sigmoid()
            curve = torch.einsum("kh,hm,hn->kmn", known * chance * (1 - chance), scaled, scaled) / width**2
            slope = (known * (need.to(x.dtype) - chance)) @ scaled / width - RIDGE * x
            step = torch.linalg.solve(curve + RIDGE * eye, slope)
            x = (x + step.clamp(-STRIDE, STRIDE)).clamp(entries.low, entries.high)
    return x
