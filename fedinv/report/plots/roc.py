"""Receiver operating characteristics on logarithmic axes, which show the low false positive rates that matter."""

from collections.abc import Sequence
from typing import Any

from fedinv.report.plots.canvas import GRID, number_powers
from fedinv.results.run import Curve

STYLES = ("-", "--", ":", "-.")


def fill(ax: Any, curves: Sequence[tuple[str, Curve]], colors: Sequence[str], chance: str) -> None:
    """Draw curves by name on one pair of axes, with the diagonal of chance in the color `chance`."""
    least = min(min(c.false_positives[0] for _, c in curves), 0.01)
    ax.plot([least / 2, 1], [least / 2, 1], linestyle="--", color=chance, linewidth=1.6)
    for i, (name, curve) in enumerate(curves):
        shown = [max(t, least / 10) for t in curve.true_positives]
        style = {"color": colors[i % len(colors)], "linestyle": STYLES[i % len(STYLES)]}
        ax.plot(curve.false_positives, shown, linewidth=2.0, label=name, **style)
    ax.set_xscale("log")
    ax.set_yscale("log")
    number_powers(ax.xaxis)
    number_powers(ax.yaxis)
    ax.set_xlim(least / 2, 1)
    ax.set_ylim(least / 2, 1.1)
    ax.grid(True, which="major", axis="both", color=GRID)
    ax.set_xlabel("others taken for members")
    ax.set_ylabel("members found")
    ax.legend(frameon=False, fontsize=9, loc="lower right")
