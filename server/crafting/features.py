"""The numbers that a copy of a record consists of: its inputs, with several categories packed into one."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .dictionary import bounds, whole

LARGEST = 4.0
"""Largest packed code's size, so that codes are no larger than standardized numbers."""
BELOW = 1e-3
"""How far below a number's smallest value its copy begins, in standard deviations, so that it is never 0."""

Pack = tuple[tuple[int, slice], ...]
"""Categorical columns whose values are the digits of one code: number of values and inputs of each, lowest first."""


@dataclass(frozen=True)
class Features:
    """f linear functions of a record, from which it can be read."""

    schema: Schema
    map: Tensor
    """Coefficients on the inputs, float64 (f, width)."""
    low: Tensor
    """Smallest value of each, (f,)."""
    high: Tensor
    """Largest value of each, (f,)."""
    packs: tuple[Pack | None, ...]
    """Columns packed in each; None for a number, and empty for the last, which is `unit` in every record."""
    unit: float
    """Size of one step of a packed code."""

    @cached_property
    def discrete(self) -> Tensor:
        """Positions of the features of which a record's exact value is known once it is snapped, int64."""
        exact = torch.zeros(self.schema.width, dtype=torch.bool)
        for column, where in zip(self.schema.columns, self.schema.slices, strict=True):
            exact[where] = isinstance(column, Categorical) or whole(column)
        return (self.map[:, ~exact].abs().sum(1) == 0).nonzero()[:, 0]

    def decode(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Records (n, width) of features (n, f), and how far packed codes are from whole numbers (n,)."""
        found = values.new_zeros(len(values), self.schema.width)
        off = values.new_zeros(len(values))
        for i, pack in enumerate(self.packs):
            if pack is None:
                found[:, self.map[i].bool()] = values[:, i : i + 1]
                continue
            code = (values[:, i] / self.unit).nan_to_num(0, 0, 0).clamp(-1, 1e6)
            off = torch.maximum(off, (code - code.round()).abs())
            if not pack:
                off = torch.maximum(off, (code - 1).abs())
                continue
            digits = code.round().clamp_min(0).long()
            for size, where in pack:
                found[:, where] = torch.nn.functional.one_hot(digits % size, size).to(values.dtype)
                digits = digits // size
            off = off + digits.clamp_max(1)  # a code beyond the largest
        return found, off


def features(schema: Schema, most: int) -> Features:
    """The features of a schema's records: a number each, categories packed into codes below `most`, and a constant.

    Raises ValueError where the schema has no categorical column, of which the constant is made.
    """
    groups = [
        (c.width, where) for c, where in zip(schema.columns, schema.slices, strict=True) if isinstance(c, Categorical)
    ]
    if not groups:
        raise ValueError("the schema has no categorical column, by which one record is told from several")
    (lowest, highest), unit = bounds(schema), LARGEST / most
    rows, low, high, packs = list[Tensor](), list[float](), list[float](), list[Pack | None]()
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if not isinstance(column, Categorical):
            row = torch.zeros(schema.width, dtype=torch.float64)
            row[where] = 1.0
            rows.append(row)
            low.append(float(lowest[where.start]) - BELOW)
            high.append(float(highest[where.start]))
            packs.append(None)
    for pack in _packed(groups, most):
        row, radix = torch.zeros(schema.width, dtype=torch.float64), 1
        for size, where in pack:
            row[where] = radix * unit * torch.arange(size, dtype=torch.float64)
            radix *= size
        rows.append(row)
        low.append(0.0)
        high.append(LARGEST)
        packs.append(pack)
    constant = torch.zeros(schema.width, dtype=torch.float64)
    constant[groups[0][1]] = unit
    ends = (torch.tensor([*low, 0.0]).double(), torch.tensor([*high, unit]).double())
    return Features(schema, torch.stack([*rows, constant]), *ends, (*packs, ()), unit)


def _packed(groups: list[tuple[int, slice]], most: int) -> list[Pack]:
    """The columns in as few codes below `most` as fit, the widest first."""
    found: list[list[tuple[int, slice]]] = []
    for size, where in sorted(groups, key=lambda group: -group[0]):
        fitting = [pack for pack in found if prod(one for one, _ in pack) * size <= most]
        if fitting:
            fitting[0].append((size, where))
        else:
            found.append([(size, where)])
    return [tuple(pack) for pack in found]
