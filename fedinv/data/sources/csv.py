"""A table of your own (CSV): types inferred, missing values filled."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.errors import RequestError, nearest
from fedinv.federation.streams import stream
from fedinv.task.columns import Categorical, Continuous, fit_categorical, fit_continuous
from fedinv.task.schema import Schema

MISSING = "(missing)"
"""Category of a missing value in a categorical column."""
ABSENT = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "?", "inf", "-inf", "Inf", "-Inf")
"""Cells that count as missing. "none" and "unknown" do not: they are answers."""
MOST_VALUES = 50
"""Largest number of different values of a categorical column, or of classes."""
MOST_NUMERIC_CLASSES = 20
"""Largest number of different numbers that a label may hold to be read as classes."""
LARGEST = 1e100
"""Largest absolute value of a number."""

Texts = NDArray[np.object_]
"""Texts as Python objects: a fixed-width array would take the memory of the longest cell for each."""


class Csv(Dataset):
    """A CSV file (UTF-8, header in the first row) with one person per row.

    A column of numbers is continuous, unless it holds at most two different ones; every other column is categorical.
    A label of numbers is a class where it holds at most 20 different ones, else a number to be predicted as such.
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
    """Names of columns to leave out."""
    categorical: tuple[str, ...] = ()
    """Names of columns to read as categories although they hold numbers."""
    continuous: tuple[str, ...] = ()
    """Names of columns to read as numbers although they hold at most two different ones."""
    sensitive: tuple[str, ...] = ()
    """Names of columns whose disclosure harms; attribute inference asks for the first of them by default."""
    identify: tuple[str, ...] = ()
    """Names of columns that identify the person: never trained on, used to name the victims of re-identification."""
    records: int | None = Field(default=None, ge=2)
    """Number of rows to use, drawn at random. Default: all of them."""
    delimiter: Literal[",", ";", "\t", "|"] = ","
    """Character between the cells of a row."""

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
        cells, notes = _read(self.path, self.delimiter)
        self._check_names(tuple(cells))
        rows = np.flatnonzero(cells[self.label] != "")
        if unlabeled := len(cells[self.label]) - len(rows):
            notes.append(f"{unlabeled} of {len(cells[self.label])} rows have no {self.label!r} and were dropped")
        if self.records is not None:
            if self.records > len(rows):
                raise RequestError(f"data.records: {self.records} is more than the {len(rows)} rows of {self.path}")
            rows = stream(seed, "csv").permutation(len(rows))[: self.records]
            rows = np.flatnonzero(cells[self.label] != "")[np.sort(rows)]
        cells = {name: texts[rows] for name, texts in cells.items()}
        target, classes, labels = self._label(cells[self.label])
        if target is not None and self.task is None:
            held = len(np.unique(labels))
            notes.append(f'{self.label}: holds {held} numbers and is predicted as a number (data.task = "regression")')

        columns: dict[str, NDArray[Any]] = {}
        specs: list[Continuous | Categorical] = []
        for name, texts in cells.items():
            if name in {self.label, *self.drop, *self.identify}:
                continue
            spec, values, done = self._column(name, texts)
            notes.extend(done)
            if spec is not None:
                specs.append(spec)
                columns[name] = values
        if not specs:
            raise RequestError(f"{self.path}: no column is left to train on beside the label {self.label!r}")
        return Table(
            schema=Schema(columns=tuple(specs), label=self.label, classes=classes, target=target),
            columns=columns,
            labels=labels,
            identities={name: cells[name] for name in self.identify} or None,
            notes=tuple(notes),
        )

    def _check_names(self, known: tuple[str, ...]) -> None:
        """Raise RequestError for a column that the file does not have, or that two keys name."""
        asked: Mapping[str, tuple[str, ...]] = {
            "label": (self.label,),
            "drop": self.drop,
            "identify": self.identify,
            "categorical": self.categorical,
            "continuous": self.continuous,
            "sensitive": self.sensitive,
        }
        role: dict[str, str] = {}
        for key, names in asked.items():
            for name in names:
                if name not in known:
                    other = "; is data.delimiter right?" if len(known) == 1 else ""
                    raise RequestError(f"data.{key}: {self.path} has no column {name!r}{nearest(name, known)}{other}")
                if key != "sensitive" and role.setdefault(name, key) != key:
                    raise RequestError(f"data.{key}: column {name!r} is in data.{role[name]} too, keep one of the two")

    def _label(self, texts: Texts) -> tuple[Continuous | None, tuple[str, ...], NDArray[Any]]:
        """Return a numeric label's statistics, () and its values (n,); or None, the classes and each row's class."""
        found, codes = np.unique(texts, return_inverse=True)
        numbers = _numbers(found)
        several = numbers is not None and len(np.unique(numbers)) > MOST_NUMERIC_CLASSES
        if self.task == "regression" or (self.task is None and several):
            return self._target(found, numbers, texts)
        return None, *self._classes(found, codes, numbers)

    def _target(
        self, found: Texts, numbers: NDArray[np.float64] | None, texts: Texts
    ) -> tuple[Continuous, tuple[str, ...], NDArray[np.float64]]:
        where = f"data.label: column {self.label!r} of {self.path}"
        if numbers is None:
            wrong = next((text for text in found if _numbers(np.array([text], object)) is None), None)
            held = "no value" if wrong is None else f"{wrong[:40]!r}, which is no number"
            raise RequestError(f'{where} holds {held}: regression needs numbers, or write data.task = "classification"')
        if len(np.unique(numbers)) < 2:
            raise RequestError(f"{where} holds one number, {found[0]!r}: two or more are needed")
        if np.abs(numbers).max() > LARGEST:
            raise RequestError(f"{where} holds numbers beyond {LARGEST:g}")
        values, whole = texts.astype(np.float64), bool(np.all(numbers == np.round(numbers)))
        return fit_continuous(self.label, values, integer=whole, sensitive=self.label in self.sensitive), (), values

    def _classes(
        self, found: Texts, codes: NDArray[np.int64], numbers: NDArray[np.float64] | None
    ) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Return the label's classes in order, and the position of each row's class (n,)."""
        if numbers is not None and len(found) > MOST_NUMERIC_CLASSES:
            raise RequestError(
                f"data.label: column {self.label!r} of {self.path} holds {len(found)} different numbers, too many for "
                f'classes: cut it into at most {MOST_NUMERIC_CLASSES} ranges, or write data.task = "regression"'
            )
        if len(found) > MOST_VALUES:
            raise RequestError(
                f"data.label: column {self.label!r} of {self.path} holds {len(found)} different values, but a label "
                f"is a class: name a column of at most {MOST_VALUES}"
            )
        if len(found) < 2:
            only = f"one class, {found[0]!r}" if len(found) else "no value"
            raise RequestError(f"data.label: column {self.label!r} of {self.path} holds {only}: two or more are needed")
        order = np.arange(len(found)) if numbers is None else np.argsort(numbers, kind="stable")
        place = np.argsort(order)
        return tuple(found[order].tolist()), np.asarray(place[codes.ravel()], np.int64)

    def _column(self, name: str, texts: Texts) -> tuple[Continuous | Categorical | None, NDArray[Any], list[str]]:
        """Return a column's statistics (None: dropped), its values with missing ones filled, and notes on both."""
        present = texts != ""
        gaps = int(len(texts) - present.sum())
        numbers = None if name in self.categorical else _numbers(texts[present])
        if name in self.continuous and numbers is None and present.any():
            wrong = next(text for text in texts[present] if _numbers(np.array([text], object)) is None)
            raise RequestError(
                f"data.continuous: column {name!r} of {self.path} holds {wrong[:40]!r}, which is no number"
            )
        if numbers is not None and (name in self.continuous or len(np.unique(numbers)) > 2):
            return self._continuous(name, numbers, present, gaps)
        distinct = np.unique(texts)
        if len(distinct) < 2:
            held = "the same value in every row" if present.any() else "no value"
            return None, texts, [f"{name}: holds {held} and was dropped"]
        strange = [text for text in distinct if text and _numbers(np.array([text], object)) is None]
        mixed = f"{strange[0][:40]!r} among numbers" if 0 < len(strange) < len(distinct) / 2 else ""
        if len(distinct) > MOST_VALUES:
            found = mixed or f"{len(distinct)} different texts, more than {MOST_VALUES}"
            remedy = "clear those cells, or " if mixed else ""
            raise RequestError(
                f"{self.path}: column {name!r} holds {found}: {remedy}list it in data.drop, "
                f"or in data.identify if it says who the person is"
            )
        done = [f"{name}: holds {mixed} and was read as categories"] if mixed and name not in self.categorical else []
        filled = np.where(present, texts, MISSING)
        if gaps:
            done.append(f"{name}: {gaps} of {len(texts)} values are missing and became {MISSING!r}")
        return fit_categorical(name, filled, sensitive=name in self.sensitive), filled, done

    def _continuous(
        self, name: str, numbers: NDArray[np.float64], present: NDArray[np.bool_], gaps: int
    ) -> tuple[Continuous | None, NDArray[Any], list[str]]:
        values = np.full(len(present), np.nan)
        values[present] = numbers
        if len(np.unique(numbers)) < 2:
            return None, values, [f"{name}: holds the same value in every row and was dropped"]
        if np.abs(numbers).max() > LARGEST:
            raise RequestError(f"{self.path}: column {name!r} holds numbers beyond {LARGEST:g}: list it in data.drop")
        whole = bool(np.all(numbers == np.round(numbers)))
        median = float(np.median(numbers))
        values[~present] = np.round(median) if whole else median
        done = [f"{name}: {gaps} of {len(present)} values are missing and became the median"] if gaps else []
        return fit_continuous(name, values, integer=whole, sensitive=name in self.sensitive), values, done


def _numbers(texts: Texts) -> NDArray[np.float64] | None:
    """Read all texts (n,) as finite numbers; None where there are no texts or one is no finite number."""
    if any("_" in text for text in texts):  # Python would read 1_000 as a number
        return None
    try:
        numbers = texts.astype(np.float64)
    except ValueError:
        return None
    return numbers if len(numbers) and bool(np.isfinite(numbers).all()) else None


def _read(path: Path, delimiter: str) -> tuple[dict[str, Texts], list[str]]:
    """Read the file's columns as trimmed texts, "" for missing values, with notes on columns that are dropped."""
    import pyarrow as pa
    from pyarrow import compute
    from pyarrow import csv as arrow

    header = _header(path, delimiter)
    # every cell is read as text, so that what identifies a person keeps its leading zeros
    keys = [f"f{i}" for i in range(len(header))]
    try:
        with path.open("rb") as file:
            table = arrow.read_csv(
                file,
                read_options=arrow.ReadOptions(
                    autogenerate_column_names=True,
                    use_threads=False,
                    block_size=min(path.stat().st_size, 2**31 - 2) + 1,
                ),
                parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(keys, pa.string())),
            )
    except pa.ArrowInvalid as error:
        raise RequestError(f"{path}: {_explain(str(error))}") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from None
    if table.num_rows < 2:
        raise RequestError(f"{path}: has a header but no rows: give a file with one person a row")
    columns, notes = {}, []
    for position, (name, key) in enumerate(zip(header, keys, strict=True), start=1):
        if not name:
            notes.append(f"column {position} of the file has no name and was dropped")
            continue
        trimmed = compute.utf8_trim_whitespace(table[key])
        absent = compute.is_in(trimmed, value_set=pa.array(ABSENT))
        columns[name] = compute.if_else(absent, "", trimmed).to_numpy()[1:]
    return columns, notes


def _header(path: Path, delimiter: str) -> list[str]:
    """Read the column names, trimmed and each on one line; "" for a column without a name."""
    if path.is_dir():
        raise RequestError(f"{path}: is a folder, give a CSV file in data.path")
    if path.exists() and not path.is_file():
        raise RequestError(f"{path}: is a pipe or a device, give a CSV file in data.path")
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
        if not start.strip():
            raise RequestError(f"{path}: is empty, give a CSV file with a header and one person a row")
        if b"\0" in start:
            raise RequestError(f"{path}: is a binary file (or UTF-16), give a CSV file in UTF-8")
        with path.open(encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text, delimiter=delimiter)
            header = [" ".join(name.split()) for name in next((row for row in lines if row), [])]
    except FileNotFoundError:
        raise RequestError(f"{path}: there is no such file, give the path of a CSV file in data.path") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv.Error):
        raise RequestError(f"{path}: is no CSV text in UTF-8, save the file as such") from None
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise RequestError(f"{path}: column {twice[0]!r} occurs {header.count(twice[0])} times, rename all but one")
    return header


def _explain(error: str) -> str:
    """Reword Arrow's error as one line with a remedy, without the content of the row."""
    row = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", error)
    if row:
        number, expected, got = row.groups()
        return f"row {number} (the header is row 1) has {got} cells instead of {expected}: complete or remove it"
    if "UTF8" in error:
        return "holds bytes that are not UTF-8, save the file as UTF-8"
    return "cannot be parsed as CSV: is it cut off, or a quote left open?"
