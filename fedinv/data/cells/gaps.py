"""Cells that stand for no value."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fedinv.data.cells.notation import Texts
from fedinv.data.cells.spellings import key

ALWAYS = frozenset(
    {
        "na",
        "n/a",
        "n.a.",
        "nan",
        "null",
        "nil",
        "nat",
        "<na>",
        "#n/a",
        "#na",
        "#nv",
        "#null!",
        "#value!",
        "#wert!",
        "#div/0!",
        "#ref!",
        "#bezug!",
        "#num!",
        "#name?",
        "(missing)",
        "missing",
        "?",
        "??",
        ".",
        "..",
        "...",
        "--",
        "---",
        "\u2013",
        "\u2014",
        "inf",
        "-inf",
        "+inf",
        "infinity",
        "-infinity",
        "",
        "#n/a n/a",
        "not available",
    }
)
"""Cells that count as missing in every column, without capitals. "none" and "unknown" do not: they are answers."""
AMONG_NUMBERS = frozenset(
    {
        "none",
        "unknown",
        "unbekannt",
        "unk",
        "unkn",
        "fehlt",
        "fehlend",
        "leer",
        "empty",
        "blank",
        "undefined",
        "inconnu",
        "desconocido",
        "nd",
        "n.d.",
        "k.a.",
        "ka",
        "tbd",
        "pending",
        "withheld",
        "refused",
        "x",
        "xx",
        "xxx",
        "*",
        "**",
        "/",
        "\\",
        "not known",
        "nicht bekannt",
        "keine angabe",
        "k. a.",
        "not recorded",
        "not done",
        "no data",
        "n. d.",
        "n. a.",
    }
)
"""Cells that count as missing in a column of numbers alone, without capitals: elsewhere they may be an answer."""
DASH = "-"
"""Counts as missing everywhere but beside a plus, where it is a result: rhesus factors, tests."""


def missing(texts: Texts, more: Iterable[str] = ()) -> NDArray[np.bool_]:
    """Which of the trimmed texts (n,) of a column stand for no value; `more` are further such texts."""
    extra = {key(text) for text in more}
    found, inverse = np.unique(texts, return_inverse=True)
    dash = "+" not in found
    gone = [
        text.casefold() in ALWAYS or (dash and text in {DASH, "\u2212"}) or (bool(extra) and key(text) in extra)
        for text in found
    ]
    return np.asarray(gone, bool)[inverse.ravel()]
