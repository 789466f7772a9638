"""The two plots of a comparison: leakage as a heat map, and leakage against lost utility."""

import textwrap
from typing import Any

import numpy as np

from fedinv.report.plots.canvas import BLUE, GRAY, HEAT, PAPER, VERMILION, WIDTH, Plot, cells
from fedinv.results.comparison import NONE, Comparison, Row
from fedinv.results.wording import epsilon_text


def heat(found: Comparison) -> Plot:
    """Heat map of leakage above a guess, percent, by stack and attack; each cell static left, adaptive right.

    A variant that was not run has an empty cell.
    """
    rows, attacks = found.rows, found.telling
    values = np.full((len(rows), 2 * len(attacks)), np.nan)
    weak = np.zeros_like(values, bool)
    for i, row in enumerate(rows):
        for leak in (leak for leak in row.leaks if leak.attack in attacks):
            j = 2 * attacks.index(leak.attack) + (leak.variant == "adaptive")
            values[i, j], weak[i, j] = max(0.0, leak.leakage), leak.verdict == "attack too weak"

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(False)
        cells(axes, values, HEAT)
        for (i, j), value in np.ndenumerate(values):
            text = "" if np.isnan(value) else "weak" if weak[i, j] else f"{100 * value:.0f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=9)
        for j in range(1, len(attacks)):
            axes.axvline(2 * j - 0.5, color=PAPER, linewidth=3)
        axes.set_yticks(range(len(rows)), [row.defenses for row in rows])
        axes.set_xticks(range(2 * len(attacks)), ["static", "adaptive"] * len(attacks), fontsize=8)
        top = axes.secondary_xaxis("top")
        top.set_xticks([2 * j + 0.5 for j in range(len(attacks))], attacks)
        for side in (*axes.spines.values(), *top.spines.values()):
            side.set_visible(False)
        top.tick_params(length=0)

    return Plot(1.0 + 0.33 * len(rows), fill, max(WIDTH, 2.2 + 1.35 * len(attacks)))


def placed(found: Comparison) -> list[Row]:
    """Stacks that have a point on the front's plot, in the order of their numbers there, from 1.

    Those of which leakage or utility is not measurable have none.
    """
    return [row for row in found.rows if row.worst is not None and row.lost.value is not None]


def front(found: Comparison, names: bool = True) -> Plot:
    """Plot of the worst leakage against the utility that each stack loses; the Pareto front is a line.

    Points are numbered; with `names` the stacks' names stand beside the plot, by number.
    """
    rows = placed(found)
    out = {one.defenses for one in found.dominated}

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(True, axis="both")
        best = sorted((r for r in rows if r.defenses not in out), key=lambda r: (_lost(r), _leak(r)))
        least, joined = 2.0, []
        for row in best:  # the line joins those on the front by their point estimates
            if _leak(row) < least:
                joined.append(row)
                least = _leak(row)
        axes.plot([100 * _lost(r) for r in joined], [100 * _leak(r) for r in joined], color=BLUE, linewidth=1)
        for row in rows:
            color = VERMILION if row.defenses == NONE else GRAY if row.defenses in out else BLUE
            low, high = row.worst.ci95 if row.worst else (0.0, 0.0)
            bars = 100 * np.array([[max(0.0, _leak(row) - max(0.0, low))], [max(0.0, max(0.0, high) - _leak(row))]])
            wide = None
            if row.lost.ci95 is not None:
                wide = [[50 * (row.lost.ci95[1] - row.lost.ci95[0])]]
            x, y = 100 * _lost(row), 100 * _leak(row)
            axes.errorbar([x], [y], bars, wide, "o", color=color, ecolor=color, elinewidth=0.7, markersize=6)
        for near in _groups(rows):
            x, y = 100 * sum(map(_lost, near)) / len(near), 100 * max(map(_leak, near))
            numbers = textwrap.fill(" ".join(str(n) for n in sorted(rows.index(r) + 1 for r in near)), 8)
            axes.annotate(numbers, (x, y), (0, 6), textcoords="offset points", ha="center", va="bottom", fontsize=8.5)
        axes.axvline(100 * found.limit, color=GRAY, linewidth=0.8, linestyle=":")
        axes.set_xlabel(f"Points of {found.metric} lost (dotted: the limit)")
        axes.set_ylabel("% leaked at worst, above a guess")
        axes.set_ylim(-4, 125)
        axes.set_yticks(range(0, 101, 20))
        axes.margins(x=0.1)
        if names:
            listed = "\n".join(f"{i + 1}  {called(row)}" for i, row in enumerate(rows))
            axes.text(1.03, 1.0, listed, transform=axes.transAxes, va="top", fontsize=8.5, linespacing=1.5)

    return Plot(max(4.2, 0.6 + 0.2 * len(rows)), fill, 8.5) if names else Plot(3.7, fill, 4.6)


def called(row: Row) -> str:
    """A stack of defenses, with the epsilon that it guarantees."""
    return (
        row.defenses
        if row.epsilon is None or not row.guaranteed
        else f"{row.defenses} (\u03b5 {epsilon_text(row.epsilon)})"
    )


def _groups(rows: list[Row]) -> list[list[Row]]:
    """Rows grouped so that those whose points would overlap share one label."""
    wide = max(1e-9, max(map(_lost, rows)) - min(map(_lost, rows))) if rows else 1.0
    found: list[list[Row]] = []
    for row in sorted(rows, key=_lost):
        for group in found:
            last = group[-1]
            if _lost(row) - _lost(last) < 0.05 * wide and abs(_leak(row) - _leak(last)) < 0.05:
                group.append(row)
                break
        else:
            found.append([row])
    return found


def _lost(row: Row) -> float:
    return row.lost.value or 0.0


def _leak(row: Row) -> float:
    return max(0.0, row.worst.leakage) if row.worst else 0.0
