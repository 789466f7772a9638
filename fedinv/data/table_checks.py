"""Checks that a source's table fits its schema, so that a source's mistake is its author's one line.

No message says what a cell holds: the records are somebody's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedinv.blame import blamed, returned
from fedinv.data.dataset import Dataset
from fedinv.data.dictionary import declared
from fedinv.data.table import Table
from fedinv.errors import RequestError, nearest
from fedinv.task.columns import Categorical, Column, Image, Tokens
from fedinv.task.schema import Schema

SLACK = 1e-6
"""Share of a column's range by which a number may lie outside it: rounding of the statistics, no mistake."""


def loaded(data: Dataset, seed: int) -> Table:
    """The source's table, checked.

    Raises RequestError as the source does for data that cannot be used, PluginError with the source's file, and line
    where there is one, when its code fails or its table does not fit its schema.
    """
    name = f"data source {data.source!r}"
    with blamed(name, type(data), RequestError):
        table = data.load(seed)
    fault = wrong(table)
    if fault is not None:
        raise returned(name, type(data), fault)
    for known in data.quasi_identifiers or ():
        if known not in table.schema.names:
            raise RequestError(
                f"data.quasi_identifiers: {known!r} is no column of the records"
                f"{nearest(known, table.schema.names)}; the label and dropped columns are none"
            )
    return table if data.declared_in is None else declared(table, data.declared_in)


def wrong(table: object) -> str | None:
    """What does not fit in a table, and what would; None where all does."""
    if not isinstance(table, Table):
        return f"load returns a Table, not {'None' if table is None else f'a {type(table).__name__}'}"
    fault = _wrong_labels(table.labels, table.schema)
    if fault is not None:
        return fault
    missing = [name for name in table.schema.names if name not in table.columns]
    if missing:
        return f"the schema lists the column {missing[0]!r}, and the table does not have it"
    faults = [_wrong_column(column, table.columns[column.name], len(table)) for column in table.schema.columns]
    return next((found for found in faults if found is not None), None) or _wrong_people(table.identities, len(table))


def _wrong_labels(labels: object, schema: Schema) -> str | None:
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or len(labels) < 2:
        return "labels must be an array of shape (records,), of two records or more"
    if schema.target is not None:
        finite = labels.dtype.kind in "fiu" and bool(np.isfinite(labels).all())
        return None if finite else f"labels must be finite numbers, as the label {schema.label!r} is one"
    if labels.dtype.kind not in "iu":
        return f"labels must be integers, the index of each record's class, not {labels.dtype}"
    if not bool(((labels >= 0) & (labels < len(schema.classes))).all()):
        return f"labels must be from 0 to {len(schema.classes) - 1}, as the schema lists {len(schema.classes)} classes"
    return None


def _wrong_column(column: Column, values: object, count: int) -> str | None:
    name = f"column {column.name!r}"
    shape = (count, column.width) if isinstance(column, Image | Tokens) else (count,)
    if not isinstance(values, np.ndarray) or values.shape != shape:
        held = f"{values.shape}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        return f"{name} must be an array of shape {shape}, as there are {count} labels, not {held}"
    if isinstance(column, Categorical):
        unlisted = {str(value) for value in set(values.tolist())} - set(column.values)
        return f"{name} holds {len(unlisted)} values that its schema does not list" if unlisted else None
    if isinstance(column, Tokens):
        known = values.dtype.kind in "iu" and bool(((values >= 0) & (values < len(column.words))).all())
        return None if known else f"{name} must hold ids from 0 to {len(column.words) - 1}, whole numbers"
    if values.dtype.kind not in "fiu" or not bool(np.isfinite(values).all()):
        return f"{name} must hold finite numbers"
    return _wrong_range(name, values, column.low, column.high)


def _wrong_range(name: str, values: NDArray[Any], low: float, high: float) -> str | None:
    slack = SLACK * max(high - low, abs(low), abs(high))
    outside = int(((values < low - slack) | (values > high + slack)).sum())
    return f"{name} holds {outside} numbers outside its schema's range from {low:g} to {high:g}" if outside else None


def _wrong_people(identities: Mapping[str, NDArray[Any]] | None, count: int) -> str | None:
    for name, values in (identities or {}).items():
        if len(values) != count:
            return f"identities: {name!r} has {len(values)} entries, as there are {count} labels it must have as many"
    return None
