"""The plot of a sweep: leakage against the swept key, against epsilon, and against the model's utility."""

from collections.abc import Callable
from typing import Any

from fedinv.report.plots.canvas import BLUE, GRAY, GREEN, PURPLE, VERMILION, WIDTH, Plot, number_powers
from fedinv.results.comparison import NONE, Comparison, Row, Swept

COLORS = (BLUE, VERMILION, GREEN, PURPLE, GRAY)
"""Colors of the curves, one for each set of defenses and values of further keys."""
MARKS = "osD^v"
"""Marks of the curves' points."""

Place = Callable[[Row], float | None]
"""Function that gives a row's place on the horizontal axis; None where it has none."""


def curves(found: Comparison, stacked: bool = False) -> Plot:
    """Plot of the worst leakage, percent with 95 % intervals, one panel each for key, epsilon and utility.

    A panel is left out where no row has a place on it. Panels stand side by side, or with `stacked` below one another,
    which suits a phone.
    """
    rows = {row.defenses: row for row in found.rows if row.worst is not None}
    points = [one for one in found.swept if one.defenses in rows]
    key = next(iter(found.swept[0].values)) if found.swept else ""
    value = {one.defenses: one.values[key] for one in points}
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in value.values())
    names = list(dict.fromkeys(value.values()))
    panels: list[tuple[str, Place, Place]] = [
        (key, lambda row: _number(value[row.defenses]) if numbers else names.index(value[row.defenses]), _none),
        ("epsilon", lambda row: row.epsilon if row.guaranteed else None, _none),
        (found.metric, lambda row: row.utility.value, lambda row: _half(row)),
    ]
    shown = [one for one in panels if any(one[1](rows[point.defenses]) is not None for point in points)]

    def fill(figure: Any) -> None:
        across, down = (1, len(shown)) if stacked else (len(shown), 1)
        axes = figure.subplots(down, across, squeeze=False, sharey=not stacked).ravel()
        for place, (ax, (title, where, wide)) in enumerate(zip(axes, shown, strict=True)):
            ax.grid(True, axis="both")
            places = _curves(ax, points, rows, key, where, wide)
            if rows.get(NONE) is not None and NONE not in value:
                ax.axhline(100 * _leak(rows[NONE]), color=GRAY, linestyle=":", linewidth=1.2)
            wide_range = bool(places) and 0 < min(places) <= max(places) / 20
            if wide_range and title != found.metric and (numbers or title != key):
                ax.set_xscale("log")
                number_powers(ax.xaxis)
            if title == key and not numbers:
                ax.set_xticks(range(len(names)), [str(one) for one in names])
            ax.set_xlabel(title)
            ax.set_ylim(-4, 108)
            if stacked or place == 0:
                ax.set_ylabel("% leaked at worst")
        handles, labels = axes[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside upper left", ncols=1, frameon=False, fontsize=8.5)

    legend = 0.2 * len({_curve(one, key) for one in points})
    panel = max(1, len(shown))
    return Plot(2.4 * panel + legend, fill) if stacked else Plot(3.2 + legend, fill, max(WIDTH, 3.4 * panel))


def _curves(ax: Any, points: list[Swept], rows: dict[str, Row], key: str, where: Place, wide: Place) -> list[float]:
    """Draw each curve on one panel, and return all its points' places."""
    places: list[float] = []
    for order, name in enumerate(dict.fromkeys(_curve(one, key) for one in points)):
        mine = [rows[one.defenses] for one in points if _curve(one, key) == name]
        at = sorted(((x, row) for row in mine if (x := where(row)) is not None), key=lambda one: one[0])
        if not at:
            continue
        xs, ys = [x for x, _ in at], [100 * _leak(row) for _, row in at]
        ends = [row.worst.ci95 if row.worst else (0.0, 0.0) for _, row in at]
        low = [max(0.0, y - 100 * max(0.0, end[0])) for y, end in zip(ys, ends, strict=True)]
        high = [max(0.0, 100 * max(0.0, end[1]) - y) for y, end in zip(ys, ends, strict=True)]
        across = [wide(row) or 0.0 for _, row in at]
        style = {"color": COLORS[order % len(COLORS)], "marker": MARKS[order % len(MARKS)], "label": name}
        ax.errorbar(xs, ys, [low, high], across if any(across) else None, elinewidth=0.9, linewidth=1.4, **style)
        places += xs
    return places


def _curve(one: Swept, key: str) -> str:
    """Name of the curve that a point belongs to: its set of defenses, and the values of all other keys."""
    others = [f"{name}={value}" for name, value in one.values.items() if name != key]
    return ", ".join([one.of, *others])


def _leak(row: Row) -> float:
    return max(0.0, row.worst.leakage) if row.worst else 0.0


def _half(row: Row) -> float | None:
    return None if row.utility.ci95 is None else (row.utility.ci95[1] - row.utility.ci95[0]) / 2


def _none(row: Row) -> None:
    return None


def _number(value: str | float) -> float:
    return float(value)
