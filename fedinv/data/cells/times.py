"""Times of day and durations as numbers: minutes, or seconds where they are written."""

import re

import numpy as np
from numpy.typing import NDArray

from fedinv.data.cells.notation import Texts, UnclearError

_TIME = re.compile(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d)(?:[.,]\d+)?)?(?:\s*([AaPp])\.?[Mm]\.?)?")


def looks_like(text: str) -> bool:
    """Whether a cell has the form of a time: 7:30, 07:30:15, 7:30 pm."""
    return _TIME.fullmatch(text) is not None


def passed(texts: Texts) -> tuple[NDArray[np.float64], str]:
    """What different texts (n,) that look like times add up to, NaN for what no clock shows, and the unit.

    It is minutes where all are written in two parts, hours and minutes, and seconds where all have three. Raises
    UnclearError for times of both forms.
    """
    found = [_TIME.fullmatch(text) for text in texts]
    parts = {2 + (one[3] is not None) for one in found if one}
    if len(parts) > 1:
        raise UnclearError("holds times with seconds and others without: write them at all or none")
    return np.array([_passed(one) for one in found]), "seconds" if parts == {3} else "minutes"


def hour_of_day(hour: int, half: str | None) -> float:
    """Hour since midnight of one with the letter of "am" or "pm" beside it, or with none; NaN for a letter above 12."""
    if not half:
        return hour
    return hour % 12 + (12 if half in "pP" else 0) if hour <= 12 else float("nan")


def _passed(found: re.Match[str] | None) -> float:
    if found is None:
        return float("nan")
    minutes = hour_of_day(int(found[1]), found[4]) * 60 + int(found[2])
    return minutes if found[3] is None else minutes * 60 + int(found[3])
