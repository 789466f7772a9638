"""Reads a table's file, CSV or Parquet, packed or not, as columns of texts.

No message quotes a cell, and none quotes the first row unless it is a header beyond doubt: in a file without a header
it is the first person's.
"""

import bz2
import csv
import gzip
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedinv.data.cells import dates
from fedinv.data.cells.gaps import ALWAYS
from fedinv.data.cells.notation import Texts
from fedinv.errors import RequestError

NAMELESS = re.compile(r"Unnamed: \d+|__index_level_\d+__")
"""Names by which pandas shows and writes a column without a name, such as its index."""
LARGEST_FILE = 2**31 - 2
"""Largest size of a file in bytes, unpacked."""
MOST_CELLS = 50_000_000
"""Largest number of a table's cells: each becomes a text of some 60 bytes, so that more would not fit into 4 GiB."""
DELIMITERS = (",", ";", "\t", "|")
"""Characters that may separate the cells of a row."""
_NUMBER = re.compile(r"[<>]?=?\s*[+-]?(\d[\d.,' ]*|[.,]\d+)\s*[%€$£]?")
_PACKED: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook, save its one table as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook, save its one table as CSV",
    b"\xfd7zXZ": "packed by xz, unpack it or pack it by gzip",
    b"\x28\xb5\x2f\xfd": "packed by zstd, unpack it or pack it by gzip",
    b"ARROW1": "an Arrow (Feather) file, save it as Parquet or CSV",
    b"<!DOCTYPE": "a web page, save its table as CSV",
    b"<html": "a web page, save its table as CSV",
    b"{": "JSON, save it as CSV or Parquet",
    b"[{": "JSON, save it as CSV or Parquet",
}


@dataclass(frozen=True)
class Columns:
    """A file's columns as trimmed texts."""

    texts: dict[str, Texts]
    """Texts (rows,) by column; a column without a name has pandas' name for it, such as "Unnamed: 0"."""
    listable: bool
    """True: the names may be listed in a message; False: they may be somebody's data, for want of a header."""
    delimiter: str | None = None
    """The delimiter that a file of one column seems to have instead of the one that it was read with; None where none
    does."""


def read(path: Path, delimiter: str) -> Columns:
    """Read a CSV file (UTF-8, header in the first row) or a Parquet file; gzip and bzip2 are unpacked.

    Raises RequestError, one line with the file and the remedy, for anything else.
    """
    if path.is_dir():
        raise RequestError(f"{path}: is a folder, give a CSV file (or Parquet) in data.path")
    if path.exists() and not path.is_file():
        raise RequestError(f"{path}: is a pipe or a device, give a CSV file (or Parquet) in data.path")
    try:
        content = _unpacked(path)
    except FileNotFoundError:
        if any(ord(character) < 32 for character in str(path)):  # C:\temp in double quotes holds a tab
            remedy = "write a path with \\ in single quotes, or with / instead"
            raise RequestError(f"{str(path)!r}: there is no such file, {remedy}, in data.path") from None
        raise RequestError(
            f"{path}: there is no such file, give the path of a CSV file (or Parquet) in data.path"
        ) from None
    except (EOFError, gzip.BadGzipFile, ValueError):
        raise RequestError(f"{path}: is packed and cannot be unpacked: is it cut off?") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or 'damaged'})") from None
    if len(content) > LARGEST_FILE:
        raise RequestError(f"{path}: holds more than {LARGEST_FILE} bytes, take a part of its rows")
    if content[:4] == b"PAR1":
        return _parquet(path, content)
    for start, what in _OTHERS.items():
        if content.lstrip()[: len(start)].lower() == start.lower():
            raise RequestError(f"{path}: is {what}")
    return _csv(path, content, delimiter)


def row_number(path: Path, position: int) -> int:
    """The number under which editors and spreadsheets show a table's row, which is so many rows below the first one.

    The header counts, and blank lines, which are no rows of the table. A line break within quotes begins no row.
    """
    content = _unpacked(path)
    if content[:4] == b"PAR1":
        return position + 2
    shown, rows, quoted, blank = 0, 0, False, True
    for line in content.split(b"\n"):
        quoted ^= bool(line.count(b'"') % 2)
        blank &= not line.rstrip(b"\r")
        if quoted:
            continue
        shown, rows, blank = shown + 1, rows + (not blank), True
        if rows == position + 2:
            break
    return shown


def _unpacked(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        for magic, opened in _PACKED.items():
            if start.startswith(magic):
                with opened(file) as packed:
                    return bytes(packed.read(LARGEST_FILE + 1))
        return file.read(LARGEST_FILE + 1)


def _csv(path: Path, content: bytes, delimiter: str) -> Columns:
    import pyarrow as pa
    from pyarrow import compute
    from pyarrow import csv as arrow

    header = _header(path, content, delimiter)
    other = next(
        (mark for mark in DELIMITERS if mark != delimiter and len(header) == 1 and header[0].count(mark) > 1), None
    )
    other = "\\t" if other == "\t" else other
    # every cell is read as text, so that what identifies a person keeps its leading zeros
    keys = [f"f{i}" for i in range(len(header))]
    try:
        table = arrow.read_csv(
            pa.BufferReader(content),
            read_options=arrow.ReadOptions(
                autogenerate_column_names=True, use_threads=False, block_size=len(content) + 1
            ),
            parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(keys, pa.string())),
        )
    except pa.ArrowInvalid as error:
        if other is not None:
            raise RequestError(
                f'{path}: reads as one column: is data.delimiter right? Write data.delimiter = "{other}"'
            ) from None
        raise RequestError(f"{path}: {_explain(path, str(error))}") from None
    if table.num_rows < 2:
        raise RequestError(f"{path}: has a header but no rows: give a file with one person a row")
    names = [name or f"Unnamed: {position}" for position, name in enumerate(header)]
    texts = {
        name: compute.utf8_trim_whitespace(table[key]).to_numpy()[1:] for name, key in zip(names, keys, strict=True)
    }
    return Columns(texts, _is_header(path, header, texts), other)


def _parquet(path: Path, content: bytes) -> Columns:
    import pyarrow as pa
    from pyarrow import compute, parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(content))
        _refuse_large(path, file.metadata.num_rows, file.metadata.num_columns)
        table = file.read()
    except (pa.ArrowException, OSError):
        raise RequestError(f"{path}: is a damaged Parquet file: is it cut off?") from None
    if table.num_rows < 1:
        raise RequestError(f"{path}: has no rows: give a file with one person a row")
    names = [" ".join(name.split()) or f"Unnamed: {position}" for position, name in enumerate(table.column_names)]
    _once(path, names)
    texts = {}
    for name, column in zip(names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_timestamp(column.type) and column.type.tz is not None:
            column = column.cast(pa.timestamp(column.type.unit))
        try:
            text = compute.utf8_trim_whitespace(column.cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise RequestError(
                f"{path}: column {name!r} holds neither numbers, dates nor texts: leave it out of the file"
            ) from None
        texts[name] = compute.fill_null(text, "").to_numpy()
    return Columns(texts, listable=True)


def _header(path: Path, content: bytes, delimiter: str) -> list[str]:
    """Read the column names, trimmed and each on one line; "" for a column without a name."""
    start = content[: 1 << 16]
    if not start.strip():
        raise RequestError(f"{path}: is empty, give a CSV file with a header and one person a row")
    if b"\0" in start:
        raise RequestError(f"{path}: is a binary file (or UTF-16), give a CSV file in UTF-8 or a Parquet file")
    try:
        with io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text, delimiter=delimiter)
            header = [" ".join(name.split()) for name in next((row for row in lines if row), [])]
    except (UnicodeDecodeError, csv.Error):
        raise RequestError(f"{path}: is no CSV text in UTF-8, save the file as such") from None
    if _is_data(header):
        raise RequestError(
            f"{path}: its first row holds values, not names: write a row of column names above it, "
            f"{len(header)} of them"
        )
    _once(path, header)
    _refuse_large(path, content.count(b"\n"), len(header))
    return header


def _once(path: Path, names: Sequence[str]) -> None:
    first = dict[str, int]()
    for position, name in enumerate(names):
        if name and first.setdefault(name, position) != position:
            raise RequestError(
                f"{path}: the name of column {first[name] + 1} occurs {names.count(name)} times, at column "
                f"{position + 1} too, rename all but one: is the first row a header?"
            )


def _refuse_large(path: Path, rows: int, columns: int) -> None:
    """Raise RequestError for a table that would not fit into memory, before it is read."""
    if rows * columns > MOST_CELLS:
        raise RequestError(
            f"{path}: {rows} rows of {columns} columns are more than {MOST_CELLS} cells, take a part of them"
        )


def _value(text: str) -> bool:
    """Whether a cell holds a value rather than a name: a number without a word, or a date."""
    return _NUMBER.fullmatch(text) is not None or dates.looks_like(text)


def _is_data(header: Sequence[str]) -> bool:
    """Whether a first row is a person's and no header: a value in it that is no whole number, or values in half of it.

    Names that are whole numbers are the years or positions of a wide table where each is the one before plus one.
    """
    values = [name for name in header if _value(name)]
    if not values:
        return False
    whole = [int(name) for name in values if name.isascii() and name.isdigit()]
    if len(whole) == len(values) > 1 and all(b - a == whole[1] - whole[0] > 0 for a, b in pairwise(whole)):
        return False
    return len(whole) < len(values) or len(values) * 2 >= len(header)


def _is_header(path: Path, header: Sequence[str], texts: dict[str, Texts]) -> bool:
    """Whether a first row is a header beyond doubt: names alone, and numbers below one of them."""
    if any(_value(name) or name.casefold() in ALWAYS for name in header[1:]) or _value(header[0]):
        return False
    below = ([text for text in column[:9].tolist() if text.casefold() not in ALWAYS] for column in texts.values())
    return any(some and all(map(_value, some)) for some in below)


def _explain(path: Path, error: str) -> str:
    """Reword Arrow's error as one line with a remedy, without the content of the row."""
    row = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", error)
    if row:
        expected, got = row.groups()[1:]
        number = row_number(path, int(row.group(1)) - 2)
        return f"row {number} (the header is row 1) has {got} cells instead of {expected}: complete or remove it"
    if "UTF8" in error:
        return "holds bytes that are not UTF-8, save the file as UTF-8"
    return "cannot be parsed as CSV: is it cut off, or a quote left open?"
