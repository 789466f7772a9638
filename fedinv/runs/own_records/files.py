"""Reads given records from a file or from the project that prepares them, as inputs of its network.

No message quotes a cell: the records are somebody's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.data import table_files
from fedinv.data.cells import gaps
from fedinv.data.cells.notation import Texts, plain_numbers
from fedinv.errors import RequestError, plain
from fedinv.recording import files as arrays
from fedinv.storage import paths
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.foreign import factory
from fedinv.task.schema import Schema

RECORDS, LABELS, UPDATE = "records", "labels", "update"
"""Arrays of an .npz file: inputs (n, ...), labels (n,), and the update that each record is behind (n,), from 0."""


@dataclass(frozen=True)
class Layout:
    """The form in which a network takes its records."""

    shape: tuple[int, ...]
    """Shape of one record."""
    dtype: torch.dtype = torch.float32
    """Type of its numbers."""
    schema: Schema | None = None
    """Data dictionary of a run, by which a table's columns are encoded; None for an app of one's own."""

    @property
    def width(self) -> int:
        """Number of inputs."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Records:
    """Records that somebody gave, with labels where there are any."""

    inputs: Tensor
    """Inputs of the network (n, ...)."""
    labels: Tensor | None = None
    """Labels (n,), numbers as they were given; None where there are none."""
    update: Tensor | None = None
    """Place of the update that each record is behind, int64 (n,); None where it is not said."""

    def __len__(self) -> int:
        return len(self.inputs)


def read(source: str | Path | Tensor | Any, layout: Layout, option: str, project: Path | None = None) -> Records:
    """Records from a .csv, .parquet or .npz file, a tensor or array, or what "app.task:mine" gives, from `project`.

    A table of a run has the columns of its data dictionary, by name. Any other one has numbers alone, the network's
    inputs in order, then perhaps the label, and perhaps a first column called "update". Raises RequestError, one line
    that names the option or the file and no cell.
    """
    if not isinstance(source, str | Path):
        return _checked(_records(torch.as_tensor(source), layout, option), option)
    path = paths.given(source)
    if not path.exists() and ":" in str(source):
        return _checked(_of_project(str(source), layout, option, project), option)
    if path.is_dir():
        raise RequestError(f"{option}: {path} is a folder, name a .csv or .npz file of records")
    if not path.is_file():
        raise RequestError(f"{option}: there is no file {path}; name a .csv or .npz file, or app.task:records")
    if path.suffix == ".npz":
        return _checked(_of_arrays(path, layout), str(path))
    found = table_files.read(path, delimiter(path))
    if layout.schema is not None and layout.schema.image is None:
        return Records(_encoded(found.texts, layout.schema, path))
    return _checked(_of_numbers(found.texts, layout, path), str(path))


def delimiter(path: Path) -> str:
    """Mark that a text file's first row has most of; a comma where it has none, or is no text."""
    with path.open("rb") as file:
        first = file.readline(1 << 16).decode("utf-8", "replace")
    return max(table_files.DELIMITERS, key=first.count)


def numbers(name: str, texts: Texts, path: Path) -> NDArray[np.float64]:
    """A column's cells (n,) as numbers. Raises RequestError naming the column and the first row that holds none."""
    found = plain_numbers(texts)
    if found is not None:
        return found
    refuse_gaps(name, texts, path)
    bad = [position for position, text in enumerate(texts) if plain_numbers(np.array([text], object)) is None]
    first = table_files.row_number(path, bad[0])
    raise RequestError(
        f"{path}: column {_named(name)} holds {len(bad)} cells that are no numbers (the first is in row {first}): give "
        "the network's inputs as numbers, or name a function that prepares them, as app.task:mine"
    )


def refuse_gaps(name: str, texts: Texts, path: Path) -> None:
    """Raise RequestError where a column's cells (n,) hold no value, naming the column and the first such row.

    What an app fed to its network in place of a missing value is known to the app alone.
    """
    rows = gaps.missing(texts).nonzero()[0]
    if not len(rows):
        return
    more = f", nor in {len(rows) - 1} other row{'s' if len(rows) > 2 else ''}" if len(rows) > 1 else ""
    first = table_files.row_number(path, int(rows[0]))
    raise RequestError(
        f"{path}: column {_named(name)} has no value in row {first}{more}: write there what the app feeds to its "
        "network in its place"
    )


def _named(name: str) -> str:
    return "without a name" if table_files.NAMELESS.fullmatch(name) else repr(plain(name, 60))


def _of_project(source: str, layout: Layout, option: str, project: Path | None) -> Records:
    found = factory.load_object(source, project, option)
    if callable(found) and not isinstance(found, Tensor):
        try:
            found = found()
        except Exception as error:
            raise RequestError(f"{option}: {source} failed: {type(error).__name__}: {plain(str(error))}") from None
    several = isinstance(found, tuple | list) and len(found) in (2, 3)
    inputs, labels, update = (*found, None)[:3] if several else (found, None, None)
    if not isinstance(inputs, Tensor | np.ndarray):
        raise RequestError(f"{option}: {source} gives a {type(inputs).__name__}, not a tensor of records")
    made = _records(torch.as_tensor(inputs), layout, f"{option}: {source}")
    made = made if labels is None else _labeled(made, torch.as_tensor(labels), f"{option}: {source}")
    return made if update is None else _placed(made, torch.as_tensor(update), f"{option}: {source}")


def _of_arrays(path: Path, layout: Layout) -> Records:
    found = arrays.load(path)
    if RECORDS not in found and len(found) > 1:
        raise RequestError(f"{path}: names no array {RECORDS!r}: save the inputs as that, and labels as {LABELS!r}")
    made = _records(found.get(RECORDS, next(iter(found.values()))), layout, str(path))
    made = _labeled(made, found[LABELS], str(path)) if LABELS in found else made
    return _placed(made, found[UPDATE], str(path)) if UPDATE in found else made


def _of_numbers(texts: dict[str, Texts], layout: Layout, path: Path) -> Records:
    """Columns as the network's inputs in order, after one called "update" and before a label, where there are these."""
    others = dict(texts)
    update = updates(others, path)
    columns = {name: numbers(name, cells, path) for name, cells in others.items()}
    if len(columns) not in (layout.width, layout.width + 1):
        raise RequestError(
            f"{path}: has {len(columns)} columns, and the network has {layout.width} inputs: give a column for each, "
            "in order, and the label in the last one if at all"
        )
    table = torch.from_numpy(np.stack(list(columns.values()), 1))
    labels = table[:, layout.width] if len(columns) > layout.width else None
    return Records(_records(table[:, : layout.width], layout, str(path)).inputs, labels, update)


def updates(texts: dict[str, Texts], path: Path) -> Tensor | None:
    """The update that each row is behind, int64 (n,), taken out of a table whose first column is called "update".

    None where it is not. Raises RequestError where that holds anything but numbers.
    """
    if next(iter(texts)) != UPDATE:
        return None
    return torch.from_numpy(numbers(UPDATE, texts.pop(UPDATE), path).astype(np.int64))


def _encoded(texts: dict[str, Texts], schema: Schema, path: Path) -> Tensor:
    """Rows of a table with a schema's columns, by name, encoded (n, width)."""
    if missing := [name for name in schema.names if name not in texts]:
        raise RequestError(f"{path}: has no column {missing[0]!r}, one of {len(schema.names)} of the run's records")
    columns: dict[str, NDArray[Any]] = {}
    for column in schema.columns:
        cells = texts[column.name]
        if isinstance(column, Continuous):
            columns[column.name] = numbers(column.name, cells, path)
        elif isinstance(column, Categorical):
            columns[column.name] = cells
    try:
        return schema.encode(columns)
    except ValueError as error:
        raise RequestError(f"{path}: {error}") from None


def _records(inputs: Tensor, layout: Layout, where: str) -> Records:
    """Inputs (n, ...) in the network's shape; those that are a flat row each are folded."""
    if inputs.ndim < 1 or not len(inputs):
        raise RequestError(f"{where}: holds no records")
    shape = tuple(inputs.shape[1:])
    if shape != layout.shape:
        if shape != (layout.width,):
            raise RequestError(f"{where}: records have the shape {shape}, and the network takes {layout.shape}")
        inputs = inputs.reshape(-1, *layout.shape)
    return Records(inputs.detach().to(layout.dtype))


def _labeled(found: Records, labels: Tensor, where: str) -> Records:
    if labels.reshape(len(labels), -1).shape != (len(found), 1):
        raise RequestError(f"{where}: {LABELS} must be one number for each of {len(found)} records")
    return Records(found.inputs, labels.reshape(-1).double(), found.update)


def _placed(found: Records, update: Tensor, where: str) -> Records:
    if update.shape != (len(found),):
        raise RequestError(f"{where}: {UPDATE} must be one number for each of {len(found)} records")
    return Records(found.inputs, found.labels, update.long())


def _checked(found: Records, where: str) -> Records:
    if not bool(torch.isfinite(found.inputs).all()):
        raise RequestError(f"{where}: holds records with numbers that are not finite")
    return found
