"""The plot of a sweep: leakage against the swept key, against epsilon, and against the model's utility."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedinv.report.plots.canvas import BLUE, GRAY, GREEN, PURPLE, VERMILION, Plot, number_powers
from fedinv.results.comparison import NONE, Comparison, Row, Swept

COLORS = (BLUE, VERMILION, GREEN, PURPLE, GRAY)
"""Colors of the curves, one for each set of defenses and values of further keys."""
MARKS = "osD^v"
"""Marks of the curves' points."""
PANEL = 4.4
"""Width in inches of a panel that stands alone; narrow, so that its words stay legible on a phone."""

Place = Callable[[Row], float | None]
"""Function that gives a row's place on the horizontal axis; None where it has none."""

Panel = tuple[str, Place, Place]
"""Title of a panel's horizontal axis, each row's place on it, and half the width of that place's interval."""


def curves(found: Comparison) -> Plot:
    """Plot of the worst leakage, percent with 95 % intervals, side by side against key, epsilon and utility.

    A panel is left out where no row has a place on it.
    """
    return _plot(found, _panels(found), 3.4)


def panels(found: Comparison) -> list[Plot]:
    """Plots of the same panels one by one, of which a page sets as many side by side as it is wide."""
    return [_plot(found, [one], PANEL) for one in _panels(found)]


@dataclass(frozen=True)
class _Sweep:
    """What a comparison swept, as far as it was measured."""

    rows: dict[str, Row]
    """Rows with a worst leakage, by their stack of defenses."""
    points: list[Swept]
    """Points of the sweep that have such a row."""
    key: str
    """The first key that was swept."""
    value: dict[str, str | float]
    """Value of that key by stack of defenses."""
    names: list[str | float]
    """Its values in order, where they are not all numbers; empty where they are."""

    def place(self, row: Row) -> float | None:
        """A row's place on the axis of the key: its value, or that value's number."""
        value = self.value[row.defenses]
        return self.names.index(value) if self.names else float(value)


def _sweep(found: Comparison) -> _Sweep:
    rows = {row.defenses: row for row in found.rows if row.worst is not None}
    points = [one for one in found.swept if one.defenses in rows]
    key = next(iter(found.swept[0].values)) if found.swept else ""
    value = {one.defenses: one.values[key] for one in points}
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in value.values())
    return _Sweep(rows, points, key, value, [] if numbers else list(dict.fromkeys(value.values())))


def _panels(found: Comparison) -> list[Panel]:
    """The panels on which any row has a place."""
    sweep = _sweep(found)
    panels: list[Panel] = [
        (sweep.key, sweep.place, _none),
        ("epsilon", lambda row: row.epsilon if row.guaranteed else None, _none),
        (found.metric, lambda row: row.utility.value, _half),
    ]
    return [one for one in panels if any(one[1](sweep.rows[point.defenses]) is not None for point in sweep.points)]


def _plot(found: Comparison, shown: Sequence[Panel], width: float) -> Plot:
    """Panels side by side, each `width` inches wide, with one legend above them."""
    sweep = _sweep(found)

    def fill(figure: Any) -> None:
        axes = figure.subplots(1, len(shown), squeeze=False, sharey=True).ravel()
        for ax, (title, where, wide) in zip(axes, shown, strict=True):
            ax.grid(True, axis="both")
            places = _curves(ax, sweep, where, wide)
            if sweep.rows.get(NONE) is not None and NONE not in sweep.value:
                ax.axhline(100 * _leak(sweep.rows[NONE]), color=GRAY, linestyle=":", linewidth=1.2)
            wide_range = bool(places) and 0 < min(places) <= max(places) / 20
            if wide_range and title != found.metric and not (sweep.names and title == sweep.key):
                ax.set_xscale("log")
                number_powers(ax.xaxis)
            if title == sweep.key and sweep.names:
                ax.set_xticks(range(len(sweep.names)), [str(one) for one in sweep.names])
            ax.set_xlabel(title)
            ax.set_ylim(-4, 108)
        axes[0].set_ylabel("% leaked at worst")
        handles, labels = axes[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside upper left", ncols=1, frameon=False, fontsize=8.5)

    legend = 0.2 * len({_curve(one, sweep.key) for one in sweep.points})
    return Plot(3.2 + legend, fill, max(PANEL, width * len(shown)))


def _curves(ax: Any, sweep: _Sweep, where: Place, wide: Place) -> list[float]:
    """Draw each curve on one panel, and return all its points' places."""
    places: list[float] = []
    for order, name in enumerate(dict.fromkeys(_curve(one, sweep.key) for one in sweep.points)):
        mine = [sweep.rows[one.defenses] for one in sweep.points if _curve(one, sweep.key) == name]
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
