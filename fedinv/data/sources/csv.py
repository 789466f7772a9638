"""A table of your own (CSV, Parquet): notation and types inferred."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedinv.data import table_files
from fedinv.data.cells import gaps, labels, numbers
from fedinv.data.cells.columns import Reading, Typed, partitioning, typed
from fedinv.data.cells.notation import DateOrder, Mark, Notation, Rows, Texts, Thousands
from fedinv.data.cells.spellings import unified
from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.errors import RequestError, nearest
from fedinv.federation.streams import stream
from fedinv.task.schema import Schema


class Csv(Dataset):
    """A CSV file (UTF-8, header in the first row) or a Parquet file, plain or packed by gzip or bzip2, a person a row.

    A column of numbers or dates is continuous, unless it holds at most two different ones; every other column is
    categorical. A label of numbers is a class where it holds at most 20 different ones, else a number to be predicted
    as such. Decimal commas, thousands, percent signs, units, bounds and dates are recognized, and said in a note.
    """

    source: Literal["csv"]
    reads_files: ClassVar[bool] = True

    path: Path
    """Path of the file; a relative path starts at the scenario's folder."""
    label: str
    """Name of the column to predict."""
    task: Literal["classification", "regression"] | None = None
    """Type of the label: a class ("classification") or a number ("regression"). Default: regression for a label of more
    than 20 different numbers."""
    drop: tuple[str, ...] = ()
    """Names of columns to leave out; a partition by column may still use them."""
    categorical: tuple[str, ...] = ()
    """Names of columns to read as categories although they hold numbers."""
    continuous: tuple[str, ...] = ()
    """Names of columns to read as numbers although they hold at most two different ones."""
    sensitive: tuple[str, ...] = ()
    """Names of columns whose disclosure harms; attribute inference asks for the first of them by default."""
    identify: tuple[str, ...] = ()
    """Names of columns that identify the person: never trained on, used to name the victims of re-identification; a
    partition by column may still use them."""
    person: str | None = None
    """Name of a column that is the same in all rows of a person: a client then holds all of a person's rows, and people
    are counted, not rows. It is never trained on. An epsilon per record protects one row: it is also given for all rows
    of a person. Default: each row is a person."""
    records: int | None = Field(default=None, ge=2)
    """Number of rows to use, drawn at random, with `person` all rows of a person or none. Default: all of them."""
    delimiter: Literal[",", ";", "\t", "|"] = ","
    """Character between the cells of a row."""
    decimal: Mark | None = None
    """Decimal mark of all numbers in the file. Default: each column is read as it is written, and refused where both
    marks fit."""
    thousands: Thousands | None = None
    """Mark between groups of three digits in all numbers. Default: recognized, and refused where it may be a decimal
    mark."""
    missing: tuple[Annotated[str, Field(coerce_numbers_to_str=True)], ...] = ()
    """Further cells that stand for no value, such as "-99" or "not asked", beside the usual ones ("NA", ".", "-")."""
    dates: DateOrder | None = None
    """Order of day, month and year in all dates, which become days since 1970-01-01. Default: recognized, and refused
    where day and month may be swapped."""
    bounds: Literal["value", "missing"] = "value"
    """Meaning of a bound among numbers, such as "<5" or "90+": the number itself ("value") or no value ("missing")."""

    dictionary: Path | None = None
    """Path of a public data dictionary (TOML): ranges and categories of every column and the label, which then reveal
    nothing of the records. Numbers outside are clipped, categories outside refused or mapped to one that is named
    `other`. Default: the server gets exact ranges, means and frequencies, which no privacy guarantee covers."""

    @property
    def declared_in(self) -> Path | None:
        """The dictionary's file."""
        return self.dictionary

    @classmethod
    def sample(cls, folder: Path) -> Self:
        """Six people with numbers, categories, a gap and a name, in a file in the folder."""
        rows = [
            "name,age,ward,ill",
            "Ada,31,a,no",
            "Bo,45,b,yes",
            "Cy,,a,no",
            "Di,52,,yes",
            "Ed,60,b,no",
            "Flo,38,a,no",
        ]
        path = folder / "people.csv"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return cls(source="csv", path=path, label="ill", identify=("name",), sensitive=("age",))

    def load(self, seed: int) -> Table:
        """Read the file. Raises RequestError, one line with the file and the remedy, for unusable content."""
        file = table_files.read(self.path, self.delimiter)
        self._check_names(file)
        cells = {
            name: np.where(gaps.missing(texts, self.missing), "", texts).astype(object)
            for name, texts in file.texts.items()
        }
        reading = Reading(
            self.path,
            Notation(self.decimal, self.thousands, self.dates, self.bounds == "missing"),
            numbers.decimal_marks(texts[texts != ""] for texts in cells.values()),
            self.categorical,
            self.continuous,
            self.sensitive,
            self.person is not None,
        )
        label = labels.cells(reading, self.label, cells[self.label], self.task)
        rows = self._rows(label.rows, cells, seed)
        predicted = labels.labels(reading, label, rows, self.task)
        cells = {name: texts[rows] for name, texts in cells.items()}
        notes = list(label.notes)
        if predicted.target is not None and self.task is None:
            held = len(np.unique(predicted.values))
            notes.append(f'{self.label}: holds {held} numbers and is predicted as a number (data.task = "regression")')
        kept = dict[str, Typed]()
        for position, (name, texts) in enumerate(cells.items(), start=1):
            if name in {self.label, self.person, *self.drop, *self.identify}:
                continue
            if table_files.NAMELESS.fullmatch(name) and name not in {*self.categorical, *self.continuous}:
                notes.append(f"column {position} of the file has no name and was dropped")
                continue
            kept[name] = typed(reading, name, texts, rows)
            notes.extend(kept[name].notes)
        specs = tuple(column.spec for column in kept.values() if column.spec is not None)
        if not specs:
            raise RequestError(f"{self.path}: no column is left to train on beside the label {self.label!r}")
        person = self._people(cells)
        trained_on = {self.label, *(spec.name for spec in specs)}
        beside = [name for name in cells if name not in trained_on]
        return Table(
            schema=Schema(columns=specs, label=self.label, classes=predicted.classes, target=predicted.target),
            columns={spec.name: kept[spec.name].values for spec in specs},
            labels=predicted.values,
            identities={name: cells[name] for name in self.identify} or None,
            person=person,
            imputed={spec.name: kept[spec.name].filled for spec in specs if kept[spec.name].filled.any()} or None,
            beside={name: partitioning(reading, cells[name]) for name in beside} or None,
            notes=(*notes, *_counted(person, self.person)),
        )

    def _check_names(self, file: table_files.Columns) -> None:
        """Raise RequestError for a column that the file does not have, or that two keys name."""
        asked: Mapping[str, tuple[str, ...]] = {
            "label": (self.label,),
            "drop": self.drop,
            "identify": self.identify,
            "person": () if self.person is None else (self.person,),
            "categorical": self.categorical,
            "continuous": self.continuous,
            "sensitive": self.sensitive,
        }
        role: dict[str, str] = {}
        for key, names in asked.items():
            for name in names:
                if name not in file.texts:
                    raise RequestError(f"data.{key}: {self.path} has no column {name!r}{_instead(name, file)}")
                free = key == "sensitive" or {key, role.get(name, key)} == {"identify", "person"}
                if not free and role.setdefault(name, key) != key:
                    raise RequestError(f"data.{key}: column {name!r} is in data.{role[name]} too, keep one of the two")

    def _rows(self, rows: Rows, cells: Mapping[str, Texts], seed: int) -> Rows:
        """The rows to use: all of them, or `records`, drawn at random; all of a person or none."""
        if self.person is not None:
            rows = rows[cells[self.person][rows] != ""]
            if not len(rows):
                raise RequestError(f"data.person: column {self.person!r} of {self.path} holds no value")
        if self.records is None:
            return rows
        if self.records > len(rows):
            raise RequestError(
                f"data.records: {self.records} is more than the {len(rows)} rows of {self.path} that have a label"
            )
        drawn = stream(seed, "csv")
        if self.person is None:
            return np.asarray(rows[np.sort(drawn.permutation(len(rows))[: self.records])])
        _, person, sizes = np.unique(cells[self.person][rows], return_inverse=True, return_counts=True)
        order = drawn.permutation(len(sizes))
        taken = order[np.cumsum(sizes[order]) <= self.records]
        return np.asarray(rows[np.isin(person.ravel(), taken)])

    def _people(self, cells: Mapping[str, Texts]) -> NDArray[np.int64] | None:
        """Number of each row's person, from 0 in the order of the file; None where each row is one."""
        if self.person is None:
            return None
        texts, _ = unified(cells[self.person])
        _, first, number = np.unique(texts, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[number.ravel()]


def labeled_table(path: Path, label: str, delimiter: str, drop: tuple[str, ...] = ()) -> Table:
    """The table of a file, its label a class and all other settings their defaults. Raises RequestError as `load`.

    Columns to `drop` are no fields of a record.
    """
    settings = {"source": "csv", "path": path, "label": label, "delimiter": delimiter, "task": "classification"}
    return Csv.model_validate({**settings, "drop": drop}).load(0)


def _instead(name: str, file: table_files.Columns) -> str:
    """What to write instead of a column's name that the file does not have; names that may be data are not listed."""
    if file.delimiter is not None:
        return f', it reads as one column: is data.delimiter right? Write data.delimiter = "{file.delimiter}"'
    named = [known for known in file.texts if not table_files.NAMELESS.fullmatch(known)]
    if file.listable:
        return nearest(name, named)
    return f": it has {len(file.texts)} columns, named by its first row; is that row a header?"


def _counted(person: NDArray[np.int64] | None, name: str | None) -> list[str]:
    """A note on how people are counted, where rows are not people."""
    if person is None:
        return []
    sizes = np.bincount(person)
    return [
        f"{name}: {len(person)} rows are about {len(sizes)} people, up to {sizes.max()} a person; people are counted"
    ]
