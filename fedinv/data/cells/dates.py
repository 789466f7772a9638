"""Dates as numbers: days since 1970-01-01."""

import re
from datetime import date
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fedinv.data.cells.notation import DateOrder, Texts, UnclearError

UNIT = "days since 1970-01-01"
"""Unit of a column of dates."""
_CLOCK = r"(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*(?:Z|[+-]\d{2}:?\d{2})?)?"
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})(?:\2(\d{1,2}))?" + _CLOCK)
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})" + _CLOCK)
_EPOCH = date(1970, 1, 1).toordinal()


def looks_like(text: str) -> bool:
    """Whether a cell has the form of a date."""
    if _YEAR_LAST.fullmatch(text):
        return True
    found = _YEAR_FIRST.fullmatch(text)
    # 2015.03 is a number, and so is 2015.3
    return found is not None and (found[4] is not None or found[2] == "-")


def days(texts: Texts, order: DateOrder | None) -> tuple[NDArray[np.float64], DateOrder]:
    """Days since 1970-01-01 of different texts (n,) that look like dates, NaN for a day that no calendar has.

    Also returns the order in which they were read. Raises UnclearError for dates that two orders fit, and for years of
    two digits.
    """
    last = [found for found in map(_YEAR_LAST.fullmatch, texts) if found]
    if any(len(found[4]) == 2 for found in last):
        raise UnclearError(
            "holds dates whose year has two digits: write all four, or list it in data.categorical or data.drop"
        )
    read = order or ("year-month-day" if not last else _order([(found[1], found[2], found[3]) for found in last]))
    return np.array([_day(text, read) for text in texts]), read


def _order(parts: list[tuple[str, str, str]]) -> DateOrder:
    """Order of dates (first, mark, second) whose year is last: the day is a part above 12, or stands before a dot."""
    day_first = any(int(first) > 12 or mark == "." for first, mark, _ in parts)
    month_first = any(int(second) > 12 for _, _, second in parts)
    if day_first != month_first:
        return "day-month-year" if day_first else "month-day-year"
    held = "dates of both orders, day first and month first" if day_first else "dates that may begin with day or month"
    ways = " or ".join(f'data.dates = "{way}"' for way in get_args(DateOrder)[1:])
    raise UnclearError(f"holds {held}: write {ways}")


def _day(text: str, order: DateOrder) -> float:
    found = _YEAR_FIRST.fullmatch(text)
    if found:
        year, month, day = int(found[1]), int(found[3]), int(found[4] or 1)
    else:
        found = _YEAR_LAST.fullmatch(text)
        if found is None:
            return float("nan")
        year, month, day = int(found[4]), int(found[3]), int(found[1])
        if order == "month-day-year":
            month, day = day, month
    hour, minute, second = (int(part or 0) for part in found.groups()[4:7])
    try:
        whole = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return float("nan")
    if hour > 24 or minute > 59 or second > 60:
        return float("nan")
    return whole + (hour * 3600 + minute * 60 + second) / 86400
