"""Checks whether a claimed record is valid, without the truth."""

import torch
from torch import Tensor

from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .first_layer import FirstLayer

SLACK = 0.05
"""Largest fault of an accepted record: of a one-hot entry, or of a number in standard deviations beyond its range."""


def fault(schema: Schema, records: Tensor) -> Tensor:
    """Distance of records (n, width) from valid ones, (n,): 0 for a valid record.

    The largest over a record's columns: an entry's distance from the nearest one-hot row, or a number's distance from
    its range in standard deviations.
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
    """The records (n, width) with categorical columns rounded to one-hot rows; numbers are not changed."""
    snapped = records.clone()
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Categorical):
            snapped[:, where] = _one_hot(records[:, where])
    return snapped


def stray(schema: Schema, update: Tensor) -> float:
    """Standard deviation of the noise in an update (h, d + 1), estimated from what no valid record can cause.

    A one-hot row sums to 1, the bias' input, so that a categorical column's updates sum to the bias' update, up to
    noise. 0 without a categorical column.
    """
    sums = [
        (update[:, where].sum(1) - update[:, -1]) / (column.width + 1) ** 0.5
        for column, where in zip(schema.columns, schema.slices, strict=True)
        if isinstance(column, Categorical)
    ]
    return float(torch.stack(sums).square().mean().sqrt()) if sums else 0.0


def activity(layer: FirstLayer, records: Tensor, single_step: bool) -> tuple[Tensor, Tensor]:
    """Units (n, h) that were certainly active, and certainly inactive, at records (n, d + 1) during training.

    A record's last entry is the bias' 1. For a `single_step` the signs at the sent weights decide; otherwise a unit
    whose pre-activation the update moved by two thirds of its distance from 0 or more is neither.
    """
    before = records @ layer.weight.T
    if single_step:
        margin = 1e-5 * before.abs().mean(1, keepdim=True)
        return before > margin, before < -margin
    margin = 1.5 * (records @ layer.update.T).abs() + 1e-4 * before.abs().mean(1, keepdim=True)
    return before > margin, before < -margin


def _one_hot(part: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(part.argmax(1), part.shape[1]).to(part.dtype)
