"""Sweeps of a key over a grid: `dp-sgd.noise_multiplier=0.1:4:log6` becomes one row of a comparison for each value."""

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from fedinv import plugins
from fedinv.errors import RequestError, plain
from fedinv.results.comparison import NONE, Swept
from fedinv.scenario.explanation import explanation
from fedinv.scenario.scenario import Scenario
from fedinv.scenario.short_form import plugin
from fedinv.storage.documents import parse_setting
from fedinv.studies.defense_sets import Stack, stack

MOST = 200
"""Rows that sweeps may make at most, over all their keys and sets of defenses."""
FORM = "KEY=FROM:TO:N, KEY=FROM:TO:logN or KEY=A,B,C"
"""Forms in which a sweep can be written."""

Value = str | int | float | bool
"""One value of a swept key."""


def swept(
    scenario: Scenario, texts: Sequence[str], defenses: Sequence[str] | None
) -> tuple[tuple[Stack, ...], tuple[Swept, ...]]:
    """The rows of a comparison that sweeps keys, and what was swept in each of them.

    Several sweeps make a row of each combination of their values, with each set of `defenses` (None: the scenario's
    own). A key is a scenario's, dotted, such as `training.lr`, or a setting of a defense, such as `top-k.keep`; the
    defense is changed in the sets that hold it, and is a set by itself where none does. Raises RequestError for a key
    that does not exist, naming the nearest, for a grid that cannot be read, and for more than 200 rows.
    """
    grids = dict(map(grid, texts))
    if len(grids) < len(texts):
        raise RequestError(f"--sweep: {next(iter(grids))} is swept twice, write all its values into one")
    bases = _bases(scenario, defenses, [key.partition(".")[0] for key in grids if _of_a_defense(key)])
    count = len(bases) * int(np.prod([len(values) for values in grids.values()]))
    if count > MOST:
        raise RequestError(f"--sweep: makes {count} rows, {MOST} at most: take fewer values or defenses")
    rows, points = [], []
    for base in bases:
        for values in product(*grids.values()):
            chosen = dict(zip(grids, values, strict=True))
            rows.append(_row(base, chosen))
            points.append(Swept(defenses=rows[-1].name, of=base.name, values=chosen))
    return tuple(rows), tuple(points)


def grid(text: str) -> tuple[str, tuple[Value, ...]]:
    """Key and values of one sweep; whole numbers where the key holds such, four digits otherwise, none of them twice.

    Raises RequestError for an unknown key, naming the nearest, and for values that are no grid and no list.
    """
    key, _, written = (part.strip() for part in text.partition("="))
    if not key or not written:
        raise RequestError(f"--sweep {plain(text, 60)!r}: write {FORM}")
    if key.partition(".")[0] in ("attacks", "defenses", "attacker", "judge", "name", "seed", "secret", "vetting"):
        raise RequestError(f"--sweep {plain(key, 60)}: cannot be swept; name a defense's setting or a key of training")
    whole = any(one.form.startswith("whole number") for one in explanation(key).settings)
    if ":" not in written:
        return key, tuple(dict.fromkeys(parse_setting(f"x={one}")[1] for one in written.split(",")))
    ends = written.split(":")
    try:
        low, high = float(ends[0]), float(ends[1])
        logarithmic = ends[2].startswith("log")
        steps = int(ends[2].removeprefix("log"))
        if len(ends) != 3 or steps < 2 or not np.isfinite([low, high]).all() or (logarithmic and min(low, high) <= 0):
            raise ValueError
    except (ValueError, IndexError):
        said = "from two numbers, above 0 for log, in 2 steps or more"
        raise RequestError(f"--sweep {plain(text, 60)!r}: write {FORM}, {said}") from None
    if steps > MOST:
        raise RequestError(f"--sweep {plain(key, 60)}: has {steps} steps, {MOST} at most")
    values = (np.geomspace if logarithmic else np.linspace)(low, high, steps)
    return key, tuple(dict.fromkeys(round(one) if whole else float(f"{one:.4g}") for one in values))


def _of_a_defense(key: str) -> bool:
    return key.partition(".")[0] in plugins.available("defenses")


def _bases(scenario: Scenario, defenses: Sequence[str] | None, kinds: Sequence[str]) -> list[Stack]:
    """Sets of defenses to sweep in: those named, or the scenario's own, with each swept defense in each of them."""
    own = [one.model_dump(mode="json", exclude_none=True, exclude_unset=True) for one in scenario.defenses]
    bases = [stack(text) for text in dict.fromkeys(map(str.strip, defenses))] if defenses else []
    if not bases:
        bases = [Stack("+".join(_text(one) for one in own) or NONE, tuple(own))]
    found = []
    for base in bases:
        missing = [kind for kind in dict.fromkeys(kinds) if kind not in [one["kind"] for one in base.defenses]]
        held = (*base.defenses, *(plugin("defenses", kind) for kind in missing))
        name = "+".join(part for part in (base.name, *missing) if part != NONE) or NONE
        found.append(Stack(name, held, base.knobs))
    return found


def _row(base: Stack, chosen: dict[str, Value]) -> Stack:
    defenses = [dict(one) for one in base.defenses]
    knobs = list(base.knobs)
    for key, value in chosen.items():
        kind, _, setting = key.partition(".")
        if _of_a_defense(key):
            for one in defenses:
                if one["kind"] == kind:
                    one[setting] = value
        else:
            knobs.append(f"{key}={json.dumps(value)}")
    return Stack("+".join([*map(_text, defenses), *knobs]) or NONE, tuple(defenses), tuple(knobs))


def _text(table: dict[str, Any]) -> str:
    """A defense's table in the short form."""
    settings = [f"{key}={json.dumps(value)}" for key, value in table.items() if key != "kind"]
    return ":".join([table["kind"], *settings])
