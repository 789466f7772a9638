"""Columns of numbers as people write them: decimal commas, thousands, percent, units, bounds, dates, times."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedinv.data.cells import dates, times
from fedinv.data.cells.gaps import AMONG_NUMBERS
from fedinv.data.cells.notation import Mark, Notation, Texts, UnclearError, plain_numbers

_NUMBER = re.compile(
    r"(?:(?P<bound>[<>\u2264\u2265]=?)|(?P<about>~|\u2248|c\.|(?:ca\.?|approx\.?|circa|about)(?!\w)))?\s*"
    r"(?P<minus>[+\-\u2212])?\s*(?P<before>[€$£¥])?\s*"
    r"(?P<body>\d[\d.,'\u2019 \u00a0\u202f]*(?<=[\d.,])|[.,]\d+)(?P<exponent>[eE][+-]?\d+)?"
    r"(?P<spread>\s*(?:\u00b1|\+/-|\+-)\s*[\d.,]+)?(?P<space>\s*)"
    r"(?P<unit>\+|%|\u2030|°[CFK]?|[€$£¥]|[^\W\d_]{1,12}[²³23]?(?:/\d{0,3}[^\W\d_]{1,12}[²³23]?){0,2})?"
)
"""A number with all that people write around it; `unit` "+" says that it is a lower bound."""
_ACCOUNTED = re.compile(r"\(\s*(.*?)\s*\)")
"""A negative amount, as accountants write it."""
_GROUPED = re.compile(r"[1-9]\d{0,2}(?P<mark>[.,' ])\d{3}(?:(?P=mark)\d{3})*(?:(?P<tail>[.,])\d*)?")
_UNGROUPED = re.compile(r"\d+|\d*[.,]\d*")
_SINGLE = re.compile(r"[1-9]\d{0,2}(?P<mark>[.,])\d{3}")
"""One mark before three digits, which may be a decimal mark or one between thousands."""
_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2019": "'"})
MEASURES = frozenset(
    {
        "kg",
        "g",
        "mg",
        "µg",
        "ug",
        "ng",
        "t",
        "lb",
        "lbs",
        "oz",
        "st",
        "m",
        "cm",
        "mm",
        "km",
        "in",
        "ft",
        "yd",
        "mi",
        "l",
        "dl",
        "ml",
        "µl",
        "ul",
        "mmhg",
        "kpa",
        "bar",
        "mmol/l",
        "µmol/l",
        "mg/dl",
        "mg/l",
        "g/dl",
        "g/l",
        "ng/ml",
        "u/l",
        "iu/l",
        "h",
        "hr",
        "hrs",
        "min",
        "s",
        "sec",
        "ms",
        "d",
        "w",
        "y",
        "yr",
        "yrs",
        "year",
        "years",
        "month",
        "months",
        "day",
        "days",
        "hours",
        "minutes",
        "jahre",
        "tage",
        "monate",
        "stunden",
        "°c",
        "°f",
        "°k",
        "%",
        "‰",
        "€",
        "$",
        "£",
        "¥",
        "eur",
        "usd",
        "gbp",
        "chf",
        "bpm/min",
        "bpm",
        "kcal",
        "kj",
        "kw",
    }
)
"""Units of measurement, without capitals: numbers in two of them are no codes."""


SHOWN = 2000
"""Different cells of a column, at most, that are looked at for the file's decimal mark."""


@dataclass(frozen=True)
class Numbers:
    """A column that was read as numbers."""

    values: NDArray[np.float64]
    """Value of each text (n,); NaN for one that stands for no value."""
    unit: str = ""
    """Unit that stands beside the numbers; "" for none."""
    said: tuple[str, ...] = field(default=())
    """Phrases on how the cells were read; empty for plain numbers."""


class _Cell(NamedTuple):
    """The parts of a cell that holds a number."""

    body: str
    sign: str
    exponent: str
    unit: str
    spaced: bool
    bound: bool
    loose: bool
    """True: it is marked as no exact number, by ~ before it or by \u00b1 and its spread after it."""


def read(texts: Texts, notation: Notation, marks: frozenset[Mark] = frozenset()) -> Numbers | None:
    """Read texts (n,), none missing, as numbers, dates or times; None where fewer than half of them are.

    `marks` are the decimal marks that other columns of the file show, see `decimal_marks`. Raises UnclearError for
    numbers that two readings fit, and for other texts among numbers.
    """
    if notation == Notation() and "," not in marks:
        numbers = plain_numbers(texts)
        if numbers is not None:
            return Numbers(numbers)
    found, first, inverse, counts = np.unique(texts, return_index=True, return_inverse=True, return_counts=True)
    inverse = inverse.ravel()
    if not len(found):
        return None
    dated = np.array([dates.looks_like(text) for text in found], bool)
    if counts[dated].sum() * 2 >= len(texts):
        values = np.full(len(found), np.nan)
        values[dated], order = dates.days(found[dated], notation.dates)
        _no_strays(found, ~np.isfinite(values), first, counts, "dates")
        said = f"dates, read {order}, became {dates.UNIT}"
        return Numbers(values[inverse], dates.UNIT, (said,))
    timed = np.array([times.looks_like(text) for text in found], bool)
    if counts[timed].sum() * 2 >= len(texts):
        values = np.full(len(found), np.nan)
        values[timed], unit = times.passed(found[timed])
        _no_strays(found, ~np.isfinite(values), first, counts, "times")
        read = "hours, minutes and seconds" if unit == "seconds" else "hours and minutes"
        return Numbers(values[inverse], unit, (f"times, read as {read}, became {unit}",))
    cells = [_parsed(text) for text in found]
    numeric = np.array([cell is not None and not cell.bound for cell in cells], bool)
    if counts[numeric].sum() * 2 < len(texts) or not numeric.any():
        return None
    units = _unit([cell for cell in cells if cell is not None])
    if units is None:
        return None
    return _column(cells, units, (found, first, inverse, counts), notation, marks)


def decimal_marks(columns: Iterable[Texts]) -> frozenset[Mark]:
    """The decimal marks that the numbers of these columns show beyond doubt."""
    shown: set[Mark] = set()
    for texts in columns:
        different = np.unique(texts)
        some = different[:: 1 + len(different) // SHOWN]
        found = [cell for cell in map(_parsed, some) if cell is not None]
        if found and len(found) * 2 >= len(some):
            decimal, thousands, _ = _shown(cell.body for cell in found)
            shown |= decimal | {_other(mark) for mark in thousands if mark in (".", ",")}
    return frozenset(shown)


def _column(
    cells: Sequence[_Cell | None],
    unit: str,
    counted: tuple[Texts, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    notation: Notation,
    marks: frozenset[Mark],
) -> Numbers:
    found, first, inverse, counts = counted
    decimal, thousands = _marks([cell.body for cell in cells if cell is not None], notation, marks)
    values = np.array([np.nan if cell is None else _value(cell, decimal, thousands) for cell in cells])
    bound = np.array([cell is not None and cell.bound for cell in cells], bool)
    if notation.bounds_missing:
        values[bound] = np.nan
    stray = ~np.isfinite(values) & ~(bound & notation.bounds_missing)
    _no_strays(found, stray, first, counts, "numbers")
    said = []
    if decimal == ",":
        said.append("read with decimal commas")
    if thousands:
        said.append(f"read with {_NAMES[thousands]} between thousands")
    if unit:
        bare = int(counts[[cell is not None and not cell.unit for cell in cells]].sum())
        said.append(f"numbers in {unit}" + (f", {bare} of them without it" if bare else ""))
    if bound.any():
        how = "count as missing" if notation.bounds_missing else 'were read as the bound (data.bounds = "missing")'
        said.append(f"{counts[bound].sum()} of {counts.sum()} values are bounds (as after <) and {how}")
    loose = np.array([cell is not None and cell.loose for cell in cells], bool)
    if loose.any():
        said.append(
            f"{counts[loose].sum()} of {counts.sum()} values are inexact (as after ~ or before \u00b1) and were read "
            "as the number"
        )
    return Numbers(values[inverse], unit, tuple(said))


_NAMES = {",": "commas", ".": "points", " ": "spaces", "'": "apostrophes"}


def _parsed(text: str) -> _Cell | None:
    within = _ACCOUNTED.fullmatch(text)
    found = _NUMBER.fullmatch(within[1] if within else text)
    if found is None or (within and (found["minus"] or found["bound"] or found["unit"] == "+")):
        return None
    unit, body = found["unit"] or found["before"] or "", found["body"].translate(_SPACES)
    if not (_UNGROUPED.fullmatch(body) or _GROUPED.fullmatch(body)):
        return None
    return _Cell(
        body=body,
        sign="-" if within or found["minus"] in ("-", "\u2212") else "",
        exponent=found["exponent"] or "",
        unit="" if unit == "+" else unit,
        spaced=bool(found["space"]),
        bound=found["bound"] is not None or unit == "+",
        loose=found["about"] is not None or found["spread"] is not None,
    )


def _unit(cells: Sequence[_Cell]) -> str | None:
    """The unit that all these cells have; "" for none; None for codes of a digit and a letter, which are no numbers.

    Raises UnclearError for several units of measurement, and for a percent sign or a rare unit at some numbers alone.
    """
    units = {cell.unit.casefold(): cell.unit for cell in cells}
    several = set(units) - {""}
    remedy = "list it in data.categorical if they are codes"
    if len(several) > 1:
        if several <= MEASURES or any(cell.spaced and cell.unit for cell in cells):
            raise UnclearError(f"holds numbers in {len(several)} different units: write all in one, or {remedy}")
        return None
    if several and "" in units:
        with_unit = sum(bool(cell.unit) for cell in cells)
        if several & {"%", "\u2030"} or with_unit * 2 < len(cells):
            sign = "a percent sign" if several & {"%", "\u2030"} else "a unit"
            raise UnclearError(f"holds numbers with {sign} and others without: write it at all or none, or {remedy}")
    return next((units[one] for one in several), "")


def _shown(bodies: Iterable[str]) -> tuple[set[Mark], set[str], set[Mark]]:
    """The decimal marks and the marks between thousands that numbers show, and the marks that may be either."""
    decimal: set[Mark] = set()
    thousands: set[str] = set()
    either: set[Mark] = set()
    for body in bodies:
        single, grouped = _SINGLE.fullmatch(body), _GROUPED.fullmatch(body)
        if single:
            either.add(single["mark"])  # type: ignore[arg-type]
        elif grouped:
            thousands.add(grouped["mark"])
            if grouped["tail"]:
                decimal.add(grouped["tail"])  # type: ignore[arg-type]
        elif body.count(".") + body.count(",") == 1:
            decimal.add("." if "." in body else ",")
    return decimal, thousands, either


def _marks(bodies: Sequence[str], notation: Notation, marks: frozenset[Mark]) -> tuple[Mark, str]:
    """The decimal mark and the mark between thousands ("" for none) of a column's numbers.

    Raises UnclearError where the numbers show two decimal marks, others than were named, or may be read in two ways.
    """
    decimal, thousands, either = _shown(bodies)
    named = notation.decimal or (_other(notation.thousands) if notation.thousands in (".", ",") else None)
    if named is not None:
        if decimal - {named} or named in thousands:
            other = "points" if named == "," else "commas"
            raise UnclearError(
                f"holds numbers with decimal {other}, and data.decimal or data.thousands says otherwise: leave the key "
                "out, so that each column is read as it is written"
            )
        return named, next(iter(thousands | either - {named}), notation.thousands or "")
    shown: set[Mark] = decimal | {_other(mark) for mark in thousands if mark in (".", ",")}
    if len(shown) > 1:
        raise UnclearError(
            "holds numbers with decimal commas and others with decimal points: write all of them one way"
        )
    if not shown and either:
        shown = _settled(either, marks)
    mark: Mark = next(iter(shown), ".")
    return mark, next(iter(thousands | (either - {mark})), "")


def _settled(either: set[Mark], marks: frozenset[Mark]) -> set[Mark]:
    """The decimal mark of numbers that may be read in two ways: what the rest of the file shows; points by default."""
    if len(either) == 1 and len(marks) == 1:
        return set(marks)
    if either == {"."} and not marks:
        return {"."}
    held = "a comma" if either == {","} else "a point" if either == {"."} else "a comma or a point"
    raise UnclearError(
        f"holds numbers with {held} before three digits, a decimal mark or one between thousands: "
        'write data.decimal = "," or data.decimal = "."'
    )


def _other(mark: str) -> Mark:
    return "." if mark == "," else ","


def _value(cell: _Cell, decimal: Mark, thousands: str) -> float:
    """The number in a cell; NaN for a body that these marks do not fit."""
    whole, _, rest = cell.body.partition(decimal)
    if thousands and thousands in whole:
        groups = whole.split(thousands)
        if not (1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])):
            return float("nan")
        whole = "".join(groups)
    text = f"{whole or '0'}.{rest or '0'}"
    if not text.replace(".", "", 1).isascii() or not text.replace(".", "", 1).isdigit():
        return float("nan")
    return float(f"{cell.sign}{text}{cell.exponent}")


def _no_strays(
    found: Texts, stray: NDArray[np.bool_], first: NDArray[np.int64], counts: NDArray[np.int64], what: str
) -> None:
    """Raise UnclearError for texts among numbers or dates, but for those that stand for no value there."""
    odd = [place for place in np.flatnonzero(stray) if found[place].casefold() not in AMONG_NUMBERS]
    if odd:
        raise UnclearError(
            f"holds {what}, and in {counts[odd].sum()} of {counts.sum()} cells something else: list what stands for no "
            "value in data.missing, or the column in data.categorical or data.drop",
            at=int(first[odd].min()),
        )
