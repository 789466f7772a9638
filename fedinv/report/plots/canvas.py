"""Plots as values that are drawn in any format: PNG, PDF, or SVG whose colors follow the reader's dark mode."""

import base64
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

Format = Literal["png", "svg", "pdf"]
"""File formats in which a plot can be drawn."""

BLUE, VERMILION, GRAY, GREEN, PURPLE = "#0072b2", "#d55e00", "#595959", "#009e73", "#cc79a7"
INK, PAPER, EDGE, GRID, PALE = "#1c2430", "#ffffff", "#8a8a8a", "#e3e3e3", "#7fb8d8"
HEAT, COLD = "#e8792b", "#5aa9d6"
"""Colors at full strength of the cells of a heat map, of what leaks and of what is seen; ink is legible on both."""
DARK: Mapping[str, str] = {
    BLUE: "#56b4e9",
    VERMILION: "#ff8c42",
    GRAY: "#a3adba",
    GREEN: "#2fc79a",
    PURPLE: "#e09cc4",
    INK: "#e8ebf0",
    PAPER: "#1d232b",
    EDGE: "#7a8592",
    GRID: "#333c47",
    PALE: "#2f6d94",
    HEAT: "#a04600",
    COLD: "#1f5f8a",
}
"""Color on a dark page of each color of a plot; a color that is not listed is the same on both."""
WIDTH = 5.4
"""Width of a plot in inches; narrow, so that 10 points stay legible when the plot is shrunk to a phone."""
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": EDGE,
    "ytick.color": EDGE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": EDGE,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "ytick.major.size": 0,
    "text.parse_math": False,  # a column's name may hold a dollar sign
    "svg.hashsalt": "fedinv",  # the same numbers give the same bytes
}


@dataclass(frozen=True)
class Plot:
    """A figure that is not drawn yet."""

    height: float
    """Height in inches."""
    fill: Callable[[Any], None]
    """Function that puts axes and marks on an empty matplotlib figure."""
    width: float = WIDTH
    """Width in inches."""


def cells(axes: Any, values: NDArray[Any], color: str) -> None:
    """Draw a heat map's cells, (rows, columns) from 0 to 1: the color, as opaque as the value; none for NaN."""
    from matplotlib.patches import Rectangle

    rows, columns = values.shape
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            alpha = 0.06 + 0.94 * float(min(1.0, max(0.0, value)))
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, edgecolor="none", alpha=alpha))
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)


def number_powers(axis: Any) -> None:
    """Label a logarithmic axis of matplotlib's by numbers such as 0.1 and 1,000, as formulas are not typeset here."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def drawn(plot: Plot, *formats: Format) -> dict[Format, bytes]:
    """A plot's file in each format. Without pyplot, so that no global state changes; equal numbers give equal bytes."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks shows as boxes
        layout = ConstrainedLayoutEngine()
        figure = Figure(figsize=(plot.width, plot.height), dpi=180, layout=layout)
        FigureCanvasAgg(figure)
        plot.fill(figure)
        if figure.axes:
            layout.execute(figure)
        figure.set_layout_engine(None)  # laid out: with an engine each format is drawn twice, once to lay it out
        return {one: _saved(figure, one) for one in formats}


def embedded(plot: Plot) -> str:
    """Address of a plot within a page, which holds all of it."""
    return uri(drawn(plot, "svg")["svg"])


def uri(svg: bytes) -> str:
    """Address of an SVG within a page."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def themed(svg: str) -> str:
    """SVG of matplotlib's in which each color of `DARK` is a variable that follows the reader's color scheme."""
    names = {color: f"--c{place}" for place, color in enumerate(DARK)}
    text = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.S)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: f"var({names[found[0]]})" if found[0] in names else found[0], text)
    light = "".join(f"{names[color]}:{color};" for color in DARK)
    dark = "".join(f"{names[color]}:{other};" for color, other in DARK.items())
    style = f"<style>:root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda found: found[1] + style, text, count=1)


def _saved(figure: Figure, form: Format) -> bytes:
    out = io.BytesIO()
    if form == "png":
        figure.savefig(out, format="png", facecolor=PAPER, metadata={"Software": None})
        return out.getvalue()
    unstated = {"Date": None} if form == "svg" else {"CreationDate": None, "Creator": None, "Producer": None}
    figure.savefig(out, format=form, facecolor="none", metadata=unstated)
    return themed(out.getvalue().decode()).encode() if form == "svg" else out.getvalue()
