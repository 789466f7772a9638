"""A public data dictionary: ranges and categories that were declared, in the place of those computed from records.

With one the server learns of the data's distribution what was declared, and nothing that depends on a record.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from fedinv.data.table import Table
from fedinv.errors import RequestError, nearest
from fedinv.strict import Strict
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.schema import Schema


class DeclaredColumn(Strict):
    """A column of a public dictionary: a number with `low` and `high`, or a category with `values`."""

    low: float | None = Field(default=None, allow_inf_nan=False)
    """Smallest number, in the column's unit; smaller ones are raised to it."""
    high: float | None = Field(default=None, allow_inf_nan=False)
    """Largest number, in the column's unit; larger ones are lowered to it."""
    mean: float | None = Field(default=None, allow_inf_nan=False)
    """Mean by which numbers are standardized. Default: the middle of the range."""
    std: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Standard deviation by which numbers are standardized. Default: that of numbers spread evenly over the range."""
    integer: bool = False
    """True: the numbers are whole."""
    unit: str = ""
    """Unit of the numbers, as reports print it."""
    values: tuple[str, ...] | None = Field(default=None, min_length=2)
    """All categories, in the order of the network's inputs, or of a label's classes."""
    frequencies: tuple[float, ...] | None = None
    """Share of each category, 0 to 1. Default: all are equally frequent."""
    other: str | None = None
    """Category, one of `values`, for all that the list lacks. Default: a table with others is refused."""

    @model_validator(mode="after")
    def _one_kind(self) -> "DeclaredColumn":
        if self.values is None:
            if self.low is None or self.high is None or self.low >= self.high:
                raise ValueError("give low and high, low below high, or values")
            if self.frequencies is not None or self.other is not None:
                raise ValueError("frequencies and other belong to a column with values")
            return self
        if any(number is not None for number in (self.low, self.high, self.mean, self.std)):
            raise ValueError("a column with values has no low, high, mean or std")
        if len(set(self.values)) < len(self.values):
            raise ValueError("values lists a category twice")
        if self.other is not None and self.other not in self.values:
            raise ValueError("other is none of values: list it there too")
        shares = self.frequencies
        if shares is not None and (len(shares) != len(self.values) or min(shares) < 0 or sum(shares) <= 0):
            raise ValueError("frequencies needs a share of 0 or more for each of values, not all 0")
        return self

    def continuous(self, name: str, sensitive: bool) -> Continuous:
        """The column as a schema's number."""
        low, high = float(self.low or 0.0), float(self.high or 0.0)
        mean = (low + high) / 2 if self.mean is None else self.mean
        std = (high - low) / 12**0.5 if self.std is None else self.std
        mode = min(max(mean, low), high)
        return Continuous(
            name=name,
            mean=mean,
            std=std,
            low=low,
            high=high,
            mode=mode,
            integer=self.integer,
            unit=self.unit,
            sensitive=sensitive,
        )

    def categorical(self, name: str, sensitive: bool) -> Categorical:
        """The column as a schema's category."""
        values = self.values or ()
        shares = self.frequencies or (1.0,) * len(values)
        frequencies = tuple(share / sum(shares) for share in shares)
        return Categorical(name=name, values=values, frequencies=frequencies, sensitive=sensitive)


class DataDictionary(Strict):
    """A file of `data.dictionary`: every column that is trained on, and the label."""

    columns: Mapping[str, DeclaredColumn]
    """The columns by name, without the label."""
    label: DeclaredColumn
    """The label: `values` are its classes; a number to be predicted has `low` and `high`."""


def read(path: Path) -> DataDictionary:
    """Read a dictionary's file. Raises RequestError, one line that names the file and the key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RequestError(f"data.dictionary: {path}: cannot be read ({error.strerror or error})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"data.dictionary: {path}: is no TOML in UTF-8 ({error})") from None
    try:
        return DataDictionary.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = [*DeclaredColumn.model_fields, *DataDictionary.model_fields]
        wrong = first["loc"] and first["type"] == "extra_forbidden"
        hint = nearest(str(first["loc"][-1]), known) if wrong else f": {first['msg'].removeprefix('Value error, ')}"
        raise RequestError(f"data.dictionary: {path}: {where}{' is unknown' if wrong else ''}{hint}") from None


def declared(table: Table, path: Path) -> Table:
    """The table under a declared dictionary: numbers clipped to its ranges, categories mapped to `other`.

    Raises RequestError for a column that only one of the two has, or reads otherwise, and for categories that the
    dictionary lacks; no message says what a cell holds.
    """
    said, schema = read(path), table.schema
    where = f"data.dictionary: {path}"
    for name in schema.names:
        if name not in said.columns:
            near = nearest(name, said.columns)
            raise RequestError(f"{where}: lacks the column {name!r}{near}: declare it, or list it in data.drop")
    columns = list[Continuous | Categorical]()
    values, notes = dict(table.columns), list(table.notes)
    for column in schema.columns:
        told = said.columns[column.name]
        if isinstance(column, Continuous) == (told.values is not None):
            raise RequestError(f"{where}: {_otherwise(column.name, told)}")
        if isinstance(column, Continuous):
            number = told.continuous(column.name, column.sensitive)
            columns.append(number)
            values[column.name], note = _clipped(told, np.asarray(table.columns[column.name], np.float64))
            gaps = (table.imputed or {}).get(column.name)
            if gaps is not None:  # they were filled by the median of all records
                values[column.name] = np.where(
                    gaps, np.round(number.mode) if told.integer else number.mode, values[column.name]
                )
        else:
            columns.append(told.categorical(column.name, column.sensitive))
            values[column.name], note = _listed(where, column.name, told, table.columns[column.name])
        notes += [f"{column.name}: {note}"] if note else []
    extra = [name for name in said.columns if name not in schema.names]
    if extra:
        raise RequestError(f"{where}: declares the column {extra[0]!r}, which the table does not train on")
    label, labels = _label(where, said.label, schema, table.labels)
    known = {"columns": tuple(columns), **label}
    return replace(table, schema=schema.model_copy(update=known), columns=values, labels=labels, notes=tuple(notes))


def _otherwise(name: str, told: DeclaredColumn) -> str:
    """What to do about a column that the table reads as another kind than the dictionary declares."""
    if told.values is not None:
        return f"declares {name!r} with values, and the table holds numbers: list it in data.categorical"
    return f"declares {name!r} with low and high, and the table holds categories: list it in data.continuous"


def _clipped(told: DeclaredColumn, numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    inside = np.clip(numbers, told.low, told.high)
    outside = int((inside != numbers).sum())
    note = f"{outside} of {len(numbers)} numbers lay outside the declared range and were clipped"
    return inside, note if outside else ""


def _listed(where: str, name: str, told: DeclaredColumn, texts: NDArray[Any]) -> tuple[NDArray[Any], str]:
    known = np.isin(np.asarray(texts, str), np.asarray(told.values))
    missing = int((~known).sum())
    if not missing:
        return texts, ""
    if told.other is None:
        raise RequestError(
            f"{where}: {missing} of {len(texts)} rows hold a category of {name!r} that is not among its values: add "
            'it, or write other = "..." with one of them'
        )
    filled = np.asarray(texts, object).copy()
    filled[~known] = told.other
    return filled, f"{missing} of {len(texts)} values are not in the dictionary and became {told.other!r}"


def _label(
    where: str, told: DeclaredColumn, schema: Schema, labels: NDArray[Any]
) -> tuple[dict[str, Any], NDArray[Any]]:
    """What changes of the schema's label, and the labels."""
    if schema.target is not None:
        if told.values is not None:
            raise RequestError(f"{where}: label: declares classes, and data.label is predicted as a number")
        inside, _ = _clipped(told, np.asarray(labels, np.float64))
        return {"target": told.continuous(schema.label, schema.target.sensitive)}, inside
    if told.values is None:
        raise RequestError(f"{where}: label: declares a number, and data.label is a class: write values")
    classes = np.asarray(schema.classes)[labels]
    named, _ = _listed(where, schema.label, told, classes)
    place = {value: position for position, value in enumerate(told.values)}
    return {"classes": told.values}, np.array([place[str(one)] for one in named], np.int64)
