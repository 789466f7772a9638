"""What the page shows, as fragments of HTML in which every value is escaped."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from fedinv.lab.forming import Forming
from fedinv.lab.look import Look
from fedinv.report.html import breakable, rendered
from fedinv.results.wording import epsilon_text, metric_text, metric_value, no_epsilon_text, percent

WIDTH, HEIGHT, MARGIN = 320.0, 150.0, 34.0
"""Size of the curve of epsilon, and the margin left and below for its axes, in pixels of its own."""


def title_html() -> str:
    """The heading of the page."""
    return _rendered("title", {})


def progress_html(stages: Sequence[tuple[str, float]]) -> str:
    """How far each task is: what it is at, in words, and the share of that which is done, 0 to 1."""
    return _rendered("progress", {"stages": stages})


def looks_html(looks: Sequence[Look | str]) -> str:
    """The settings' outcomes beside one another; in place of one that failed the line that says why."""
    names = ("This setting",) if len(looks) == 1 else ("First setting", "Second setting")
    shown = [
        refused_html(found) if isinstance(found, str) else look_html(found, name)
        for found, name in zip(looks, names, strict=True)
    ]
    return _rendered("beside", {"shown": [Markup(one) for one in shown]})  # noqa: S704 - rendered, and escaped, above


def look_html(found: Look, title: str) -> str:
    """One setting's outcome: verdict, people beside their reconstructions, what the server saw, rates, epsilon."""
    return _rendered("look", {"found": found, "title": title, "curve": curve(found.epsilons)})


def frame_html(found: Forming, position: int) -> str:
    """One moment of a search, beside the truth; `position` counts the frames from 0."""
    return _rendered("frame", {"found": found, "frame": found.frames[position], "position": position})


def refused_html(line: str) -> str:
    """One line on why there is nothing to show."""
    return _rendered("refused", {"line": line})


def toml_html(text: str) -> str:
    """A scenario's file, to be copied."""
    return _rendered("toml", {"text": text})


def curve(points: Sequence[tuple[int, float]]) -> dict[str, Any] | None:
    """The curve of epsilon over rounds as positions in a picture of WIDTH by HEIGHT; None without points."""
    if not points:
        return None
    rounds, top = points[-1][0], max(value for _, value in points) or 1.0

    def at(number: int, value: float) -> tuple[float, float]:
        across = MARGIN + (WIDTH - MARGIN - 12) * (number / rounds)
        return round(across, 1), round(HEIGHT - MARGIN - (HEIGHT - MARGIN - 14) * value / top, 1)

    placed = [at(number, value) for number, value in points]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "floor": HEIGHT - MARGIN,
        "left": MARGIN,
        "line": " ".join(f"{x},{y}" for x, y in [at(0, 0.0), *placed]),
        "points": placed,
        "rounds": rounds,
        "top": top,
        "says": ", ".join(f"after round {number}: {value:.2f}" for number, value in points),
    }


def _rendered(kind: str, values: dict[str, Any]) -> str:
    filters = {
        "breakable": breakable,
        "percent": percent,
        "metric": metric_text,
        "metric_value": metric_value,
        "epsilon": epsilon_text,
        "no_epsilon": no_epsilon_text,
    }
    return rendered("lab.html.j2", filters, {"kind": kind, **values})
