"""The plot of a replication: every measure that is a share, a dot for each seed."""

from typing import Any

import numpy as np

from fedinv.report.plots.canvas import BLUE, GRAY, Plot
from fedinv.report.plots.run_plots import in_lines
from fedinv.results.replication import Replication

LETTERS = 44
"""Letters of a line beside the plot: with more there is no room left for it."""


def dots(found: Replication) -> Plot:
    """Plot of each measure that is a share, percent, one dot a seed and a dash at the guess's mean."""
    rows = [one for one in found.measures if one.share]
    texts = [f"{one.attack} ({one.variant}): {one.measure.replace('_', ' ')}" for one in rows]
    names = [in_lines(text, LETTERS) for text in texts]
    lines = max((name.count("\n") + 1 for name in names), default=1)

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(True, axis="x")
        for i, one in enumerate(rows):
            values = np.array([100 * value for value in one.value.values if value is not None])
            apart = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
            axes.plot(values, i + apart, "o", color=BLUE, markersize=4, alpha=0.8)
            axes.plot([100 * one.guess.mean] * 2, [i - 0.3, i + 0.3], color=GRAY, linewidth=2)
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(-3, 103)
        axes.set_xlabel("percent")

    return Plot(1.0 + (0.18 + 0.16 * lines) * max(1, len(rows)), fill)
