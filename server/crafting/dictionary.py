"""Records that the public data dictionary alone tells from mixtures of several."""

import torch
from torch import Tensor

from fedinv.task.columns import Categorical, Continuous
from fedinv.task.schema import Schema

from ..inversion.exact.validity import fault, snap

COARSE = 60.0
"""Standard deviation, in its own unit, of a column of whole numbers up to which an error of a few thousandths of it
does not hide which number is meant."""


def whole(column: object) -> bool:
    """Whether a column's numbers are known to be whole, and coarse enough for one to be recognized."""
    return isinstance(column, Continuous) and column.integer and column.std < COARSE


def certified(schema: Schema, records: Tensor, slack: float) -> Tensor:
    """Which rows (n, width) are records: categories one-hot, numbers in range, and whole where they must be, bool (n,).

    `slack` is the error that is allowed, of a one-hot entry or in standard deviations. A mixture of two records fails
    in each categorical or whole column in which they differ.
    """
    finite = records.isfinite().all(1)
    rows = records.nan_to_num(1e9, 1e9, -1e9)
    good = finite & (fault(schema, rows) < slack)
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Continuous) and whole(column):
            numbers = rows[:, where.start] * column.std + column.mean
            good &= (numbers - numbers.round()).abs() < slack * max(1.0, column.std)
    return good


def snapped(schema: Schema, records: Tensor) -> Tensor:
    """Records (n, width) with categories made one-hot, and whole numbers whole."""
    rows = snap(schema, records)
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Continuous) and whole(column):
            numbers = (rows[:, where] * column.std + column.mean).round()
            rows[:, where] = (numbers - column.mean) / column.std
    return rows


def fresh(rows: Tensor, known: Tensor, same: float) -> Tensor:
    """Which rows (n, width) are neither among the known ones (k, width) nor equal to a row before them, bool (n,).

    Rows are equal where all inputs differ by less than `same`.
    """
    new = ~(torch.cdist(rows, known, p=torch.inf) < same).any(1)
    return new & ~(torch.cdist(rows, rows, p=torch.inf) < same).tril(-1).any(1)


def bounds(schema: Schema) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each input, float64 (width,) each."""
    low, high = torch.zeros(schema.width, dtype=torch.float64), torch.ones(schema.width, dtype=torch.float64)
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if not isinstance(column, Categorical):
            low[where], high[where] = ((bound - column.mean) / column.std for bound in (column.low, column.high))
    return low, high
