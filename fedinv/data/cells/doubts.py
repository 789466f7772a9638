"""Numbers that may be none: identifiers, codes, and what people write where they have no value."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedinv.data.cells.notation import Texts
from fedinv.data.partition import names_identifier

FEWEST_UNIQUE = 10
"""Rows from which a column that differs in each of them may be an identifier."""
FEWEST_STAND_INS = 2
"""Cells in which a number stands for no value, at least, so that it is noticed."""


class Held(NamedTuple):
    """What a column of numbers holds."""

    values: NDArray[np.float64]
    """Numbers of the column, without missing ones."""
    texts: Texts
    """Cells of the column that are not empty."""
    rows: int
    """Rows of the table."""


def doubts(name: str, held: Held, unit: str, of_people: bool) -> Iterator[str]:
    """Phrases for a column whose numbers are trained on and may be none, each with the key that settles it.

    None of them shows a number of the file. `of_people` says that the scenario tells which rows are one person's.
    """
    if not unit and (held.values == np.round(held.values)).all():
        yield from _identifying(name, held, of_people)
        if _padded(held.texts):
            yield (
                "has cells of one length that begin with 0, as codes do, and was read as numbers: list it in "
                "data.categorical or data.drop if it holds codes"
            )
    if cells := _stand_ins(held.values):
        yield (
            f"holds one number of nines, far from all others, in {cells} of {held.rows} rows: list it in data.missing "
            "if it stands for no value"
        )


def _identifying(name: str, held: Held, of_people: bool) -> Iterator[str]:
    """A phrase for whole numbers that seem to say who the person is, and for numbered people with several rows."""
    values, different, named = held.values, len(np.unique(held.values)), names_identifier(name)
    counted = "is trained on and counted as a field"
    if different == held.rows >= FEWEST_UNIQUE:
        in_steps = values.min() in (0, 1) and np.ptp(values) + 1 == held.rows
        of_digits = values.min() >= 10_000 and len(str(int(values.min()))) == len(str(int(values.max())))
        if named or in_steps or of_digits:
            yield (
                f"is different in every row, as an identifier is, and {counted}: list it in data.identify or data.drop "
                "if it is one"
            )
    elif named and not of_people:
        yield (
            f'is named as an identifier and {counted}: list it in data.drop, or write data.person = "{name}" if its '
            "rows are about one person"
        )


def _padded(texts: Texts) -> bool:
    """Whether all cells are digits of one length, two or more, and some begin with a zero."""
    length = len(texts[0])
    return (
        length > 1
        and all(len(text) == length and text.isdigit() for text in texts)
        and any(text[0] == "0" for text in texts)
    )


def _stand_ins(values: NDArray[np.float64]) -> int:
    """Cells that hold the least or the greatest number where that stands for no value; 0 where none does.

    It is -9, -99, 99, 999 or the like, and the others lie nearer to one another than to it.
    """
    for extreme in (values.min(), values.max()):
        others = values[values != extreme]
        cells = len(values) - len(others)
        nines = extreme == np.round(extreme) and set(f"{abs(extreme):.0f}") == {"9"} and (extreme < 0 or extreme >= 99)
        if nines and cells >= FEWEST_STAND_INS and np.abs(others - extreme).min() > np.ptp(others):
            return cells
    return 0
