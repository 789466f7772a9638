"""The two pictures of a comparison: the heat map, and what utility buys what privacy."""

from typing import Any

import numpy as np

from fedinv.comparison import Comparison, Row
from fedinv.report.plots import BLUE, GRAY, VERMILION, WIDTH, png
from fedinv.stacks import NONE


def heat(found: Comparison) -> bytes:
    """Leakage above a guess by stack and attack; each cell static on the left, adaptive on the right."""
    rows, attacks = found.rows, found.attacks
    values = np.full((len(rows), 2 * len(attacks)), np.nan)
    weak = np.zeros_like(values, bool)
    for i, row in enumerate(rows):
        for leak in row.leaks:
            j = 2 * attacks.index(leak.attack) + (leak.variant == "adaptive")
            values[i, j], weak[i, j] = max(0.0, leak.leakage), leak.verdict == "attack too weak"
        for j in range(0, values.shape[1], 2):  # an attack that knows nothing better does the same again
            if np.isnan(values[i, j + 1]):
                values[i, j + 1], weak[i, j + 1] = values[i, j], weak[i, j]
            if np.isnan(values[i, j]):  # of a sum there is no other way
                values[i, j], weak[i, j] = 0.0, weak[i, j + 1]

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(False)
        axes.imshow(np.nan_to_num(values), cmap="cividis_r", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            text = "-" if np.isnan(value) else "weak" if weak[i, j] else f"{100 * value:.0f}"
            axes.text(j, i, text, ha="center", va="center", color="white" if value > 0.5 else "black", fontsize=9)
        for j in range(1, len(attacks)):
            axes.axvline(2 * j - 0.5, color="white", linewidth=3)
        axes.set_yticks(range(len(rows)), [row.defenses for row in rows])
        axes.set_xticks(range(2 * len(attacks)), ["static", "adaptive"] * len(attacks), fontsize=8)
        top = axes.secondary_xaxis("top")
        top.set_xticks([2 * j + 0.5 for j in range(len(attacks))], attacks)
        for side in (*axes.spines.values(), *top.spines.values()):
            side.set_visible(False)
        top.tick_params(length=0)

    return png(1.0 + 0.33 * len(rows), fill, max(WIDTH, 2.2 + 1.35 * len(attacks)))


def front(found: Comparison) -> bytes:
    """What each stack costs the model against what leaks at worst; those that none dominates are joined."""
    rows = [row for row in found.rows if row.worst is not None]
    out = {one.defenses for one in found.dominated}

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(True, axis="both")
        best = sorted((r for r in rows if r.defenses not in out), key=lambda r: (r.lost.value, _leak(r)))
        least, joined = 2.0, []
        for row in best:  # only what is on the front in its point estimates is joined
            if _leak(row) < least:
                joined.append(row)
                least = _leak(row)
        axes.plot([100 * r.lost.value for r in joined], [100 * _leak(r) for r in joined], color=BLUE, linewidth=1)
        for row in rows:
            color = VERMILION if row.defenses == NONE else GRAY if row.defenses in out else BLUE
            low, high = row.worst.ci95 if row.worst else (0.0, 0.0)
            bars = 100 * np.array([[max(0.0, _leak(row) - max(0.0, low))], [max(0.0, max(0.0, high) - _leak(row))]])
            wide = None
            if row.lost.ci95 is not None:
                wide = [[50 * (row.lost.ci95[1] - row.lost.ci95[0])]]
            x, y = 100 * row.lost.value, 100 * _leak(row)
            axes.errorbar([x], [y], bars, wide, "o", color=color, ecolor=color, elinewidth=0.7, markersize=6)
            name = f"{row.defenses} (\u03b5 {row.epsilon:.1f})" if row.guaranteed else row.defenses
            axes.annotate(name, (x, y), (6, 5), textcoords="offset points", color=color, fontsize=8.5)
        axes.axvline(100 * found.limit, color=GRAY, linewidth=0.8, linestyle=":")
        axes.set_xlabel(f"Points of {found.metric} lost (dotted: the limit)")
        axes.set_ylabel("% leaked at worst, above a guess")
        axes.set_ylim(-4, 112)
        axes.margins(x=0.2)

    return png(4.6, fill, 7.5)


def _leak(row: Row) -> float:
    return max(0.0, row.worst.leakage) if row.worst else 0.0
