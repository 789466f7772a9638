"""The two plots of a duel: what detectors see of deviations, and records recovered over detection probability."""

import math
from typing import Any

import numpy as np

from fedinv.report.plots.canvas import COLD, GRAY, INK, PAPER, WIDTH, Plot, cells
from fedinv.results.duel import COMBINED, Duel

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
"""Colors of the deviations' curves, which the color-blind can distinguish (Okabe and Ito)."""
MARKS = "osD^vPX"
"""Marks of the deviations' points."""


def matrix(found: Duel) -> Plot:
    """Heat map of the percentage of messages flagged at 1 % false alarms, by deviation and detector."""
    columns = [*found.detectors, COMBINED]
    values = np.full((len(found.deviations), len(columns)), np.nan)
    for one in found.seen:
        if one.at_1 is not None:
            values[found.deviations.index(one.deviation), columns.index(one.detector)] = one.at_1.value

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(False)
        cells(axes, values, COLD)
        for (i, j), value in np.ndenumerate(values):
            axes.text(j, i, "-" if np.isnan(value) else f"{100 * value:.0f}", ha="center", va="center", fontsize=9)
        axes.axvline(len(columns) - 1.5, color=PAPER, linewidth=3)
        axes.set_yticks(range(len(found.deviations)), found.deviations)
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", fontsize=8)
        for side in axes.spines.values():
            side.set_visible(False)

    return Plot(1.4 + 0.33 * max(1, len(found.deviations)), fill, max(WIDTH, 2.2 + 0.6 * len(columns)))


def curve(found: Duel) -> Plot:
    """Plot of records recovered over the share of messages flagged by the best combination at 1 % false alarms.

    A line a deviation, through what it gets as it is (filled), by its evasions, and of the model itself (ring).
    """
    names = list(dict.fromkeys(one.deviation for one in found.evasions))

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(True, axis="both")
        for place, name in enumerate(names):
            mine = sorted((e for e in found.evasions if e.deviation == name), key=lambda e: e.flagged.value)
            color, mark = COLORS[place % len(COLORS)], MARKS[place % len(MARKS)]
            xs = [100 * one.flagged.value for one in mine]
            ys = [100 * (one.recovered.value or 0.0) for one in mine]
            axes.plot(xs, ys, color=color, linewidth=0.8, alpha=0.6)
            for x, y, one in zip(xs, ys, mine, strict=True):
                face = color if one.plain else "none" if one.honest else PAPER
                axes.plot([x], [y], mark, color=color, markerfacecolor=face, markersize=8 if one.plain else 6)
            axes.plot([], [], mark + "-", color=color, label=name)
        axes.axvline(1.0, color=GRAY, linewidth=0.8, linestyle=":")
        axes.set_xlabel("% of messages flagged (dotted: false alarms)")
        axes.set_ylabel("% of records recovered in full")
        axes.set_xlim(-3, 103)
        axes.set_ylim(-3, 103)
        if names:
            figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8.5)

    return Plot(4.2 + 0.2 * math.ceil(len(names) / 2), fill)
