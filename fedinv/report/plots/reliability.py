"""Does an attack know when it is right? Its confidence against the truth, as a diagram and in a sentence."""

from collections.abc import Sequence
from typing import Any

from fedinv.report.plots.canvas import PAPER
from fedinv.results.intervals import clopper_pearson
from fedinv.results.run import Calibration
from fedinv.results.wording import percent

ACROSS = 2
"""Diagrams in a row."""
SMALLEST, LARGEST = 18.0, 170.0
"""Area of a dot in square points: for a vanishing share of the claims, and for all of them."""


def fill(axes: Sequence[Any], found: Sequence[tuple[str, Calibration]], blue: str, vermilion: str) -> None:
    """Draw a reliability diagram of each attack (Niculescu-Mizil and Caruana 2005) on axes of its own.

    A dot is a bin of confidence, its area grows with the share of claims in it; the bar is the 95 % interval of the
    share right.
    """
    for place, (ax, (label, measured)) in enumerate(zip(axes, found, strict=True)):
        total = sum(one.count for one in measured.bins)
        called = f"{label}\n{total} claim{'s' if total != 1 else ''}"
        ax.plot([0, 1], [0, 1], color=vermilion, linestyle="--", linewidth=1.5)
        for one in measured.bins:
            at = one.claimed_mean
            ax.plot([at, at], one.ci95, color=blue, linewidth=2, solid_capstyle="butt")
            area = SMALLEST + (LARGEST - SMALLEST) * one.count / total
            ax.scatter(at, one.right, s=area, color=blue, edgecolors=PAPER, linewidths=0.8, zorder=3, clip_on=False)
        ticks = [0, 0.25, 0.5, 0.75, 1]
        ax.set_title(called, fontsize=9.5)
        ax.set(xlim=(-0.03, 1.04), ylim=(-0.03, 1.04))
        ax.set_xticks(ticks, ["0", "25", "50", "75", "100 %"])
        ax.set_yticks(ticks, ["0", "25", "50", "75", "100 %"])
        ax.set_box_aspect(1)
        ax.grid(axis="y")
        ax.set_xlabel("confidence claimed")
        if place % ACROSS == 0:
            ax.set_ylabel("share recovered")


def sentence(measured: Calibration) -> str:
    """One sentence that compares an attack's mean confidence with the share of its claims that is right."""
    count = sum(one.count for one in measured.bins)
    right = round(sum(one.count * one.right for one in measured.bins))
    stated = sum(one.count * one.claimed_mean for one in measured.bins) / count
    low, high = clopper_pearson(right, count)
    claims = "its one claim" if count == 1 else f"its {count} claims"
    begun = f"{percent(stated)} sure of {claims} on average, {percent(right / count)} right in full"
    if stated > high:
        return f"{begun}: it is too sure of itself."
    if stated < low:
        return f"{begun}: it is right more often than it says."
    off = measured.expected_calibration_error
    if off > 0.1 and count >= 20:
        return f"{begun}: honest on average, {percent(off)} off in the single steps."
    return f"{begun}: honest, as far as {'so few' if count < 20 else 'this many'} claims can tell."
