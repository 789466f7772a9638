"""The label: classes, or a number that is predicted as such."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedinv.data.cells.columns import LARGEST, MOST_VALUES, Reading, row
from fedinv.data.cells.notation import Rows, Texts, UnclearError
from fedinv.data.cells.spellings import unified
from fedinv.errors import RequestError
from fedinv.task.columns import Continuous, fit_continuous

MOST_NUMERIC_CLASSES = 20
"""Largest number of different numbers that a label may hold to be read as classes."""

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Cells:
    """The label's cells."""

    name: str
    """Name of the column."""
    texts: Texts
    """Texts (n,), "" where there is none."""
    values: NDArray[np.float64] | None
    """Numbers that the texts stand for, (n,), NaN where there is none; None where they are no numbers."""
    rows: Rows
    """Rows that have a label."""
    notes: tuple[str, ...]
    """Remarks for readers: how the cells were read, how many rows have none."""


@dataclass(frozen=True)
class Labels:
    """The labels as they are predicted."""

    target: Continuous | None
    """Statistics of a numeric label; None for classes."""
    classes: tuple[str, ...]
    """Names of the classes in order; empty for a numeric label."""
    values: NDArray[Any]
    """Numbers (n,), or positions of the classes, int64 (n,)."""


def cells(reading: Reading, name: str, texts: Texts, task: Task | None) -> Cells:
    """Read the label's cells (n,). Raises RequestError for many numbers in a notation that is unclear."""
    rows = np.flatnonzero(texts != "")
    values = None
    notes: list[str] = []
    try:
        found = reading.numbers(texts[rows])
    except UnclearError as unclear:
        # codes and bands may be classes; what is no number beyond doubt cannot be predicted as one
        if task == "regression" or (task is None and len(np.unique(texts[rows])) > MOST_NUMERIC_CLASSES):
            raise RequestError(f"{_where(reading, name)} {unclear}{row(reading, unclear.at, rows)}") from None
        found = None
    if found is not None:
        values = np.full(len(texts), np.nan)
        values[rows] = found.values
        rows = np.flatnonzero(np.isfinite(values))
        notes.extend(f"{name}: {said}" for said in found.said)
    if unlabeled := len(texts) - len(rows):
        notes.append(f"{unlabeled} of {len(texts)} rows have no {name!r} and were dropped")
    return Cells(name, texts, values, rows, tuple(notes))


def labels(reading: Reading, label: Cells, rows: Rows, task: Task | None) -> Labels:
    """Classes or numbers of these rows (n,). Raises RequestError, one line with the remedy, for a useless label."""
    texts, values = label.texts[rows], None if label.values is None else label.values[rows]
    several = values is not None and len(np.unique(values)) > MOST_NUMERIC_CLASSES
    if task == "regression" or (task is None and several):
        return _target(reading, label.name, texts, values)
    return _classes(reading, label.name, texts, values)


def _where(reading: Reading, name: str) -> str:
    return f"data.label: column {name!r} of {reading.path}"


def _target(reading: Reading, name: str, texts: Texts, values: NDArray[np.float64] | None) -> Labels:
    where = _where(reading, name)
    if values is None:
        held = "texts" if len(texts) else "no value"
        raise RequestError(f'{where} holds {held}: regression needs numbers, or write data.task = "classification"')
    if len(np.unique(values)) < 2:
        raise RequestError(f"{where} holds the same number in every row: two or more are needed")
    if np.abs(values).max() > LARGEST:
        raise RequestError(f"{where} holds numbers beyond {LARGEST:g}")
    whole = bool(np.all(values == np.round(values)))
    return Labels(fit_continuous(name, values, integer=whole, sensitive=name in reading.sensitive), (), values)


def _classes(reading: Reading, name: str, texts: Texts, values: NDArray[np.float64] | None) -> Labels:
    where = _where(reading, name)
    spelled, _ = unified(texts, values)
    found, first, codes = np.unique(spelled, return_index=True, return_inverse=True)
    if values is not None and len(found) > MOST_NUMERIC_CLASSES:
        raise RequestError(
            f"{where} holds {len(found)} different numbers, too many for classes: cut it into at most "
            f'{MOST_NUMERIC_CLASSES} ranges, or write data.task = "regression"'
        )
    if len(found) > MOST_VALUES:
        raise RequestError(
            f"{where} holds {len(found)} different values, but a label is a class: name a column of at most "
            f"{MOST_VALUES}"
        )
    if len(found) < 2:
        only = "one class in all rows" if len(found) else "no value"
        raise RequestError(f"{where} holds {only}: two or more are needed")
    order = np.arange(len(found)) if values is None else np.argsort(values[first], kind="stable")
    place = np.argsort(order)
    return Labels(None, tuple(found[order].tolist()), np.asarray(place[codes.ravel()], np.int64))
