"""Spellings of one value: 1 and 1.0, yes and YES, differ in nothing that a category should differ in."""

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from fedinv.data.cells.notation import Texts

_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
"""A number without an exponent, which a code such as 1E5 may look like."""
_TRUTHS: dict[float | str, str] = {
    **dict.fromkeys(("true", "t", "yes", "y", 1.0), "true"),
    **dict.fromkeys(("false", "f", "no", "n", 0.0), "false"),
}
"""What the ways to answer yes or no have in common."""


def key(text: str) -> float | str:
    """What all spellings of a value have in common: a number's value, else the text without capitals and spaces."""
    if _PLAIN.fullmatch(text) and text.isascii():
        return float(text)
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


def unified(texts: Texts, numbers: NDArray[np.float64] | None = None) -> tuple[Texts, int]:
    """Texts (n,) with one spelling a value, and how many values had several.

    A number's shortest spelling is kept, else the most frequent one. `numbers` (n,) are the texts' values where they
    are known to be numbers in another notation.
    """
    found, first, inverse, counts = np.unique(texts, return_index=True, return_inverse=True, return_counts=True)
    keys = [key(text) if numbers is None else float(numbers[at]) for text, at in zip(found, first, strict=True)]
    groups: dict[float | str, list[int]] = {}
    for place, one in enumerate(_answers(keys)):
        groups.setdefault(one, []).append(place)
    chosen = found.copy()
    for one, places in groups.items():
        if isinstance(one, float):
            best = min(places, key=lambda place: (len(found[place]), found[place]))
        else:
            best = min(places, key=lambda place: (-counts[place], found[place]))
        chosen[places] = found[best]
    return chosen[inverse.ravel()], sum(len(places) > 1 for places in groups.values())


def _answers(keys: list[float | str]) -> list[float | str]:
    """Keys where each answers yes or no: T, True and yes are one; other keys, and 0 and 1 alone, as they are."""
    if any(isinstance(one, str) for one in keys) and all(one in _TRUTHS for one in keys):
        return [_TRUTHS[one] for one in keys]
    return keys
