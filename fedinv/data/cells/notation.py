"""How a file writes numbers, dates and gaps: what its owner said of it, and the fault of a cell that fits nothing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Texts = NDArray[np.object_]
"""Texts as Python objects: a fixed-width array would take the memory of the longest cell for each."""
Rows = NDArray[np.int64]
"""Positions of rows in the file, from 0 below the header, int64 (n,)."""
Mark = Literal[".", ","]
"""A decimal mark."""
Thousands = Literal[",", ".", " ", "'"]
"""A mark between groups of three digits."""
DateOrder = Literal["year-month-day", "day-month-year", "month-day-year"]
"""Order of a date's parts."""


@dataclass(frozen=True)
class Notation:
    """The notation that the scenario names; None where the cells themselves must show it."""

    decimal: Mark | None = None
    """Decimal mark of all numbers."""
    thousands: Thousands | None = None
    """Mark between groups of three digits."""
    dates: DateOrder | None = None
    """Order of the parts of all dates."""
    bounds_missing: bool = False
    """True: a bound such as a number after "<" counts as missing; False: it is read as the number itself."""


class UnclearError(ValueError):
    """Cells that fit no reading, or two: a phrase on what they hold and what to write, quoting none of them."""

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message)
        self.at = at
        """Position of the first such cell among the texts that were read; None where it is all of them."""


def plain_numbers(texts: Texts) -> NDArray[np.float64] | None:
    """Read all texts (n,) as finite numbers, as Python writes them; None where there are none or one is no number."""
    if any("_" in text for text in texts):  # Python would read 1_000 as a number
        return None
    try:
        numbers = texts.astype(np.float64)
    except ValueError:
        return None
    return numbers if len(numbers) and bool(np.isfinite(numbers).all()) else None
