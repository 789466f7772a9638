"""Does a record look like one? Checks of a claim that need no truth."""

import torch
from torch import Tensor

from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .first_layer import FirstLayer

SLACK = 0.05
"""How far a one-hot entry may be from 0 or 1, and a number outside its range in standard deviations."""


def fault(schema: Schema, records: Tensor) -> Tensor:
    """How far records (n, width) are from what the schema allows, (n,): 0 for valid ones.

    The largest over a record's columns of the distance from a one-hot row, or of a number's distance from its range
    in standard deviations.
    """
    faults = []
    for column, where in zip(schema.columns, schema.slices, strict=True):
        part = records[:, where]
        if isinstance(column, Categorical):
            faults.append((part - _one_hot(part)).abs().amax(1))
        else:
            low, high = ((bound - column.mean) / column.std for bound in (column.low, column.high))
            faults.append((part - part.clamp(low, high)).abs().amax(1))
    return torch.stack(faults).amax(0)


def snap(schema: Schema, records: Tensor) -> Tensor:
    """Records (n, width) with their categorical columns made exactly one-hot; numbers stay as they are."""
    snapped = records.clone()
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Categorical):
            snapped[:, where] = _one_hot(records[:, where])
    return snapped


def stray(schema: Schema, update: Tensor) -> float:
    """Standard deviation of what an update (h, d + 1) holds that no valid record can have put there.

    A one-hot row sums to 1 as the bias' entry does, so a column's updates sum to the bias' update, up to noise. 0
    without a categorical column.
    """
    sums = [
        (update[:, where].sum(1) - update[:, -1]) / (column.width + 1) ** 0.5
        for column, where in zip(schema.columns, schema.slices, strict=True)
        if isinstance(column, Categorical)
    ]
    return float(torch.stack(sums).square().mean().sqrt()) if sums else 0.0


def activity(layer: FirstLayer, records: Tensor, still: bool) -> tuple[Tensor, Tensor]:
    """Units (n, h) that were surely active, and surely inactive, while the records (n, d + 1) were trained on.

    A record's last entry is the bias' 1. With `still` weights (one step) the signs at the sent weights decide;
    otherwise a unit is left undecided that the update moved by a fair part of its distance from the threshold.
    """
    before = records @ layer.weight.T
    if still:
        margin = 1e-5 * before.abs().mean(1, keepdim=True)
        return before > margin, before < -margin
    margin = 1.5 * (records @ layer.update.T).abs() + 1e-4 * before.abs().mean(1, keepdim=True)
    return before > margin, before < -margin


def _one_hot(part: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(part.argmax(1), part.shape[1]).to(part.dtype)
