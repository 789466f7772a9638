"""A true signal and the reconstructed one, drawn over each other as lines."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedinv.report.plots.canvas import BLUE, VERMILION, Plot
from fedinv.task.columns import Image


def overlaid(true: NDArray[np.float64], claimed: NDArray[np.float64], signal: Image) -> Plot:
    """Both signals (leads * samples,), in the column's unit, against milliseconds: a panel for each lead."""
    seconds = 1000 * np.arange(signal.across) / (signal.rate or 1.0)

    def fill(figure: Any) -> None:
        axes = figure.subplots(signal.channels, 1, sharex=True, squeeze=False)[:, 0]
        lines = zip(true.reshape(signal.channels, -1), claimed.reshape(signal.channels, -1), strict=True)
        for ax, (one, other) in zip(axes, lines, strict=True):
            ax.plot(seconds, one, color=BLUE, linewidth=3.2, alpha=0.55, label="true")
            ax.plot(seconds, other, color=VERMILION, linewidth=1.2, linestyle="--", label="reconstructed")
            ax.set_ylabel(signal.unit)
            ax.grid(visible=True, axis="both")
        axes[0].legend(loc="upper right", frameon=False, fontsize=8)
        axes[-1].set_xlabel("ms")

    return Plot(0.6 + 1.8 * signal.channels, fill, width=4.0)
