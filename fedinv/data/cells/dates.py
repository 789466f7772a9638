"""Dates as numbers: days since 1970-01-01."""

import re
from calendar import month_name
from datetime import date
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from fedinv.data.cells.notation import DateOrder, Texts, UnclearError
from fedinv.data.cells.times import hour_of_day

UNIT = "days since 1970-01-01"
"""Unit of a column of dates."""
_CLOCK = r"(?:,?[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*(?:([AaPp])\.?[Mm]\.?|Z|[+-]\d{2}:?\d{2})?)?"
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})(?:\2(\d{1,2}))?" + _CLOCK)
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})" + _CLOCK)
_NAME = r"(?P<month>[A-Za-z]{3,9})"
_MONTH_NAMED = (
    re.compile(r"(?P<day>\d{1,2})([-/. ]?)" + _NAME + r"\.?,?\2 ?(?P<year>\d{4}|\d{2})" + _CLOCK),
    re.compile(_NAME + r"\.? (?P<day>\d{1,2})(?:st|nd|rd|th)?(,?) (?P<year>\d{4}|\d{2})" + _CLOCK),
)
"""Dates with an English name of the month: 12 Jan 2015, 12-JAN-2015, 12JAN2015, January 12, 2015."""
_MONTHS = {
    part.lower(): number for number, name in enumerate(month_name) if number for part in (name, name[:3], name[:4])
}
"""Number of each month by its name and its first three and four letters."""
_EPOCH = date(1970, 1, 1).toordinal()


def looks_like(text: str) -> bool:
    """Whether a cell has the form of a date."""
    if _YEAR_LAST.fullmatch(text) or _named(text):
        return True
    found = _YEAR_FIRST.fullmatch(text)
    # 2015.03 is a number, and so is 2015.3
    return found is not None and (found[4] is not None or found[2] == "-")


def days(texts: Texts, order: DateOrder | None) -> tuple[NDArray[np.float64], str]:
    """Days since 1970-01-01 of different texts (n,) that look like dates, NaN for a day that no calendar has.

    Also returns how they were read, in words. Raises UnclearError for dates that two orders fit, and for years of two
    digits.
    """
    last = [found for found in map(_YEAR_LAST.fullmatch, texts) if found]
    named = [found for found in map(_named, texts) if found]
    if any(len(year) == 2 for year in (*(found[4] for found in last), *(found.year for found in named))):
        raise UnclearError(
            "holds dates whose year has two digits: write all four, or list it in data.categorical or data.drop"
        )
    read = order or ("year-month-day" if not last else _order([(found[1], found[2], found[3]) for found in last]))
    said = read.replace("-", ", ") if len(named) < len(texts) else "by the names of their months"
    return np.array([_day(text, read) for text in texts]), said


def _order(parts: list[tuple[str, str, str]]) -> DateOrder:
    """Order of dates (first, mark, second) whose year is last: the day is a part above 12, or stands before a dot."""
    day_first = any(int(first) > 12 or mark == "." for first, mark, _ in parts)
    month_first = any(int(second) > 12 for _, _, second in parts)
    if day_first != month_first:
        return "day-month-year" if day_first else "month-day-year"
    held = "dates of both orders, day first and month first" if day_first else "dates that may begin with day or month"
    ways = " or ".join(f'data.dates = "{way}"' for way in get_args(DateOrder)[1:])
    raise UnclearError(f"holds {held}: write {ways}")


class _Named(NamedTuple):
    """The parts of a date with the name of its month."""

    year: str
    month: int
    day: int
    clock: tuple[str | None, ...]


def _named(text: str) -> _Named | None:
    for form in _MONTH_NAMED:
        found = form.fullmatch(text)
        if found is None:
            continue
        month = _MONTHS.get(found["month"].lower())
        if month is not None:
            return _Named(found["year"], month, int(found["day"]), found.groups()[-4:])
    return None


def _day(text: str, order: DateOrder) -> float:
    named, first, last = _named(text), _YEAR_FIRST.fullmatch(text), _YEAR_LAST.fullmatch(text)
    if named:
        year, month, day, clock = int(named.year), named.month, named.day, named.clock
    elif first:
        year, month, day, clock = int(first[1]), int(first[3]), int(first[4] or 1), first.groups()[-4:]
    elif last:
        year, month, day, clock = int(last[4]), int(last[3]), int(last[1]), last.groups()[-4:]
        if order == "month-day-year":
            month, day = day, month
    else:
        return float("nan")
    try:
        return date(year, month, day).toordinal() - _EPOCH + _time(clock)
    except ValueError:
        return float("nan")


def _time(clock: tuple[str | None, ...]) -> float:
    """Share of the day that has passed at (hour, minute, second, a or p); NaN for a time that no clock shows."""
    minute, second = int(clock[1] or 0), int(clock[2] or 0)
    hour = hour_of_day(int(clock[0] or 0), clock[3])
    if minute > 59 or second > 60 or not hour <= 24:
        return float("nan")
    return (hour * 3600 + minute * 60 + second) / 86400
