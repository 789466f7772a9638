"""The numbers that a copy of a record consists of: its inputs, with several categories packed into one."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, prod

import torch
from torch import Tensor

from fedinv.task.columns import Categorical, Continuous
from fedinv.task.schema import Schema

from .dictionary import bounds, whole

LARGEST = 4.0
"""Largest packed code's size, so that codes are no larger than standardized numbers."""
BELOW = 1e-3
"""How far below a number's smallest value its copy begins, in standard deviations, so that it is never 0."""


@dataclass(frozen=True)
class Digit:
    """A column whose values are a digit of a code."""

    size: int
    """Number of values."""
    where: slice
    """Inputs of the column: one a value, or a single one for whole numbers."""
    column: Continuous | None
    """The column of whole numbers, whose lowest is the digit 0; None for a category."""

    def of(self, digits: Tensor) -> Tensor:
        """The column's inputs by its digit (n,), (n, inputs)."""
        if self.column is None:
            return torch.nn.functional.one_hot(digits, self.size)
        return ((digits + lowest(self.column) - self.column.mean) / self.column.std)[:, None]


Pack = tuple[Digit, ...]
"""Columns whose values are the digits of one code, lowest first."""


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
            for digit in pack:
                found[:, digit.where] = digit.of(digits % digit.size).to(values.dtype)
                digits = digits // digit.size
            off = off + digits.clamp_max(1)  # a code beyond the largest
        return found, off


def features(schema: Schema, most: int, numbers: bool = False) -> Features:
    """The features of a schema's records: a number each, categories packed into codes below `most`, and a constant.

    With `numbers` whole numbers of few values are packed too. Raises ValueError where the schema has no categorical
    column, of which the constant is made.
    """
    columns = list(zip(schema.columns, schema.slices, strict=True))
    digits = [_digit(column, where) for column, where in columns]
    packed = [one for one in digits if one and one.size <= most and (numbers or one.column is None)]
    ones = next((where for column, where in columns if isinstance(column, Categorical)), None)
    if ones is None:
        raise ValueError("the schema has no categorical column, by which one record is told from several")
    (smallest, largest), unit = bounds(schema), LARGEST / most
    rows, low, high, packs = list[Tensor](), list[float](), list[float](), list[Pack | None]()
    for column, where in columns:
        if not isinstance(column, Categorical) and all(one.where != where for one in packed):
            row = torch.zeros(schema.width, dtype=torch.float64)
            row[where] = 1.0
            rows.append(row)
            low.append(float(smallest[where.start]) - BELOW)
            high.append(float(largest[where.start]))
            packs.append(None)
    for pack in _packed(packed, most):
        row, radix = torch.zeros(schema.width, dtype=torch.float64), 1
        for digit in pack:
            step = radix * unit
            if digit.column is None:
                row[digit.where] += step * torch.arange(digit.size, dtype=torch.float64)
            else:  # one category's entries add up to 1
                row[digit.where] += step * digit.column.std
                row[ones] += step * (digit.column.mean - lowest(digit.column))
            radix *= digit.size
        rows.append(row)
        low.append(0.0)
        high.append(LARGEST)
        packs.append(pack)
    constant = torch.zeros(schema.width, dtype=torch.float64)
    constant[ones] = unit
    ends = (torch.tensor([*low, 0.0]).double(), torch.tensor([*high, unit]).double())
    return Features(schema, torch.stack([*rows, constant]), *ends, (*packs, ()), unit)


def lowest(column: Continuous) -> int:
    """Smallest whole number of a column."""
    return ceil(column.low)


def _digit(column: object, where: slice) -> Digit | None:
    """A column as a digit of a code; None where its values are not finitely many."""
    if isinstance(column, Categorical):
        return Digit(column.width, where, None)
    if isinstance(column, Continuous) and whole(column):
        return Digit(floor(column.high) - lowest(column) + 1, where, column)
    return None


def _packed(digits: list[Digit], most: int) -> list[Pack]:
    """The columns in as few codes below `most` as fit, the widest first."""
    found: list[list[Digit]] = []
    for one in sorted(digits, key=lambda digit: -digit.size):
        fitting = [pack for pack in found if prod(other.size for other in pack) * one.size <= most]
        if fitting:
            fitting[0].append(one)
        else:
            found.append([one])
    return [tuple(pack) for pack in found]
