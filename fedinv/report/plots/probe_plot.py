"""The plot of a probe: the share of given records that stands out in each update, beside the rate of the others."""

from typing import Any

from fedinv.report.plots.canvas import BLUE, VERMILION, Plot
from fedinv.results.probing import ProbeVerdict
from fedinv.results.terms import whose

MOST = 20
"""Updates that are drawn at most, those in which most records stand out."""


def dots(found: ProbeVerdict) -> Plot | None:
    """Plot of shares with 95 % intervals, percent, and a dashed line at the stated rate; None without any."""
    counted = [(one, one.at[0]) for one in found.updates if one.at[0].share is not None]
    counted = sorted(counted, key=lambda pair: -(pair[1].share or 0))[:MOST]
    if not counted:
        return None

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        for place, (_, at) in enumerate(counted):
            low, high = at.ci95 or (0.0, 1.0)
            axes.plot([100 * low, 100 * high], [place, place], color=BLUE, linewidth=2)
            axes.plot([100 * (at.share or 0)], [place], "o", color=BLUE, markersize=7)
        axes.axvline(100 * counted[0][1].rate, linestyle="--", color=VERMILION, linewidth=1.6)
        axes.set_yticks(range(len(counted)), [f"round {one.round}, {whose(one.client)}" for one, _ in counted])
        axes.set_ylim(len(counted) - 0.5, -0.5)
        axes.set_xlim(-3, 103)
        axes.set_xlabel("percent that stand out (dashed: of the others)")

    return Plot(1.0 + 0.34 * len(counted), fill)
