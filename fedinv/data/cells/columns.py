"""A column's type and values: numbers or categories, with missing ones filled, and what is said of it."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedinv.data import table_files
from fedinv.data.cells import numbers
from fedinv.data.cells.doubts import Held, doubts
from fedinv.data.cells.notation import Mark, Notation, Rows, Texts, UnclearError
from fedinv.data.cells.numbers import Numbers
from fedinv.data.cells.spellings import unified
from fedinv.errors import RequestError
from fedinv.task.columns import Categorical, Continuous, fit_categorical, fit_continuous

MISSING = "(missing)"
"""Category of a missing value in a categorical column."""
MOST_VALUES = 50
"""Largest number of different values of a categorical column, or of classes."""
_SEVERAL = re.compile(r"\d[^\w.]+\d")
"""Two numbers beside one another, as a blood pressure of 120/80."""
LARGEST = 1e100
"""Largest absolute value of a number."""


@dataclass(frozen=True)
class Reading:
    """How a file's columns are read."""

    path: Path
    """The file, for messages."""
    notation: Notation
    """Notation that the scenario names."""
    marks: frozenset[Mark]
    """Decimal marks that the file's columns show beyond doubt."""
    categorical: Collection[str] = ()
    """Columns to read as categories although they hold numbers."""
    continuous: Collection[str] = ()
    """Columns to read as numbers although they hold at most two different ones."""
    sensitive: Collection[str] = ()
    """Columns whose disclosure harms."""
    of_people: bool = False
    """True: the scenario says which rows are about one person."""

    def numbers(self, texts: Texts) -> Numbers | None:
        """Read texts (n,) as numbers; None where they are texts. Raises UnclearError where that is unclear."""
        return numbers.read(texts, self.notation, self.marks)


@dataclass(frozen=True)
class Typed:
    """A column of the records."""

    spec: Continuous | Categorical | None
    """The column's statistics; None for one that tells nothing and was dropped."""
    values: NDArray[Any]
    """Values (n,), missing ones filled."""
    filled: NDArray[np.bool_]
    """Which of them (n,) were missing."""
    notes: list[str] = field(default_factory=list)
    """Remarks for readers: how the cells were read, what was filled, why the column was dropped."""


def typed(reading: Reading, name: str, texts: Texts, rows: Rows) -> Typed:
    """Find a column's type and fill its missing values; `texts` (n,) hold "" for them, `rows` (n,) are for messages.

    Raises RequestError, one line with the file, the column and the remedy, for a column that cannot be read.
    """
    present = texts != ""
    try:
        found = None if name in reading.categorical else reading.numbers(texts[present])
    except UnclearError as unclear:
        raise RequestError(
            f"{reading.path}: column {name!r} {unclear}{row(reading, unclear.at, rows[present])}"
        ) from None
    if name in reading.continuous and found is None and present.any():
        raise RequestError(f"data.continuous: column {name!r} of {reading.path} holds texts that are no numbers")
    if found is not None and (name in reading.continuous or len(np.unique(found.values[~np.isnan(found.values)])) > 2):
        return _continuous(reading, name, found, texts)
    return _categorical(reading, name, texts, present)


def partitioning(reading: Reading, texts: Texts) -> NDArray[Any]:
    """A column beside the records: numbers where all are, else texts with one spelling a value."""
    spelled, _ = unified(texts)
    try:
        found = reading.numbers(spelled)
    except UnclearError:
        return spelled
    return spelled if found is None or not np.isfinite(found.values).all() else found.values


def row(reading: Reading, at: int | None, rows: Rows) -> str:
    """Where the first of several cells is, as a phrase with the row's number, the header being row 1."""
    return "" if at is None else f" (the first is in row {table_files.row_number(reading.path, int(rows[at]))})"


def _categorical(reading: Reading, name: str, texts: Texts, present: NDArray[np.bool_]) -> Typed:
    spelled, several = unified(texts)
    distinct = np.unique(spelled)
    if len(distinct) < 2:
        held = "the same value in every row" if present.any() else "no value"
        return Typed(None, texts, ~present, [f"{name}: holds {held} and was dropped"])
    if len(distinct) > MOST_VALUES:
        every = ", another in every row" if len(distinct) == len(texts) else ""
        split = " split it into columns of one number each," if all(map(_SEVERAL.search, distinct)) else ""
        raise RequestError(
            f"{reading.path}: column {name!r} holds {len(distinct)} different texts{every}, more than {MOST_VALUES}:"
            f"{split} list it in data.drop, or in data.identify if it says who the person is"
        )
    done = [f"{name}: {several} values were spelled in several ways and made one each"] if several else []
    values = np.where(present, spelled, MISSING)
    if gone := int((~present).sum()):
        done.append(f"{name}: {gone} of {len(texts)} values are missing and became {MISSING!r}")
    return Typed(fit_categorical(name, values, sensitive=name in reading.sensitive), values, ~present, done)


def _continuous(reading: Reading, name: str, found: Numbers, texts: Texts) -> Typed:
    present = texts != ""
    values = np.full(len(present), np.nan)
    values[present] = found.values
    gone = np.isnan(values)
    known = values[~gone]
    if len(np.unique(known)) < 2:
        return Typed(None, values, gone, [f"{name}: holds the same value in every row and was dropped"])
    if np.abs(known).max() > LARGEST:
        raise RequestError(f"{reading.path}: column {name!r} holds numbers beyond {LARGEST:g}: list it in data.drop")
    whole = bool(np.all(known == np.round(known)))
    median = float(np.median(known))
    values[gone] = np.round(median) if whole else median
    done = [f"{name}: {said}" for said in found.said]
    if gone.any():
        done.append(f"{name}: {int(gone.sum())} of {len(present)} values are missing and became the median")
    if name not in reading.continuous:
        held = Held(known, texts[present], len(present))
        done.extend(f"{name}: {said}" for said in doubts(name, held, found.unit, reading.of_people))
    spec = fit_continuous(name, values, integer=whole, unit=found.unit, sensitive=name in reading.sensitive)
    return Typed(spec, values, gone, done)
