"""A comparison's files: JSON, CSV and Parquet for other programs, and an HTML page with two plots."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedinv.report.frames import write_sheets
from fedinv.report.html import breakable, rendered
from fedinv.results.comparison import Comparison, DefenseLeak, Row
from fedinv.results.wording import (
    NOT_MEASURABLE,
    UNITS,
    by_reason,
    epsilon_text,
    headline,
    hits,
    leaked_text,
    metric_value,
    no_epsilon_text,
    not_to_the_end,
    percent,
    points,
    shown_leakage,
    weak_text,
)
from fedinv.storage import files
from fedinv.storage.run_folder import StudyFolder

if TYPE_CHECKING:
    from fedinv.report.plots import canvas


def lost(row: Row) -> str:
    """Points of the metric that a stack of defenses loses, with half its interval's width where it has one.

    "not measurable" where the metric is not.
    """
    if row.lost.value is None:
        return NOT_MEASURABLE
    if row.lost.ci95 is None:
        return f"{100 * row.lost.value:+.1f}"
    return f"{100 * row.lost.value:+.1f} \u00b1 {50 * (row.lost.ci95[1] - row.lost.ci95[0]):.1f}"


def epsilon(row: Row) -> str:
    """The epsilon that a stack of defenses guarantees with its unit, as a short phrase; "none" without one."""
    if row.exceeds is not None:
        return no_epsilon_text(row.exceeds)
    if row.epsilon is None:
        return "none"
    return f"{epsilon_text(row.epsilon)} a {UNITS[str(row.unit)]}" + (
        "" if row.against_server else ", not against the server"
    )


COLUMNS = (
    "defenses", "attack", "variant", "leakage", "leakage_low", "leakage_high", "verdict",
    "recovered", "recovered_low", "recovered_high", "records",
    "fields_right", "fields_guess", "measure", "value", "guess",
    "utility", "utility_lost", "epsilon", "unit", "against_server", "bytes_up", "bytes_ratio",
    "training_seconds", "attack_seconds", "seeds",
)  # fmt: skip
"""Columns of comparison.csv and comparison.parquet."""


def lines(found: Comparison) -> Iterator[dict[str, Any]]:
    """One row of the CSV and Parquet files for each stack of defenses, attack and variant, by column name.

    The keys that a sweep changed come first, empty in rows that are no part of it.
    """
    keys = list(dict.fromkeys(key for point in found.swept for key in point.values))
    swept = {point.defenses: point.values for point in found.swept}
    for row in found.rows:
        values_swept = {key: swept.get(row.defenses, {}).get(key) for key in keys}
        for leak in row.leaks:
            whole, fields, measure = leak.recovered, leak.fields, leak.measure
            low, high = whole.ci95 if whole and whole.ci95 else (None, None)
            values = (
                row.defenses, leak.attack, leak.variant, leak.leakage, *leak.ci95, leak.verdict,
                whole and whole.value, low, high, whole and whole.count,
                fields and fields.value, fields and fields.prior,
                measure and measure.name, measure and measure.value, measure and measure.prior,
                row.utility.value, row.lost.value, row.epsilon, row.unit, row.against_server,
                row.bytes_up, row.bytes_ratio, row.seconds, leak.seconds, len(row.runs),
            )  # fmt: skip
            yield {**values_swept, **dict(zip(COLUMNS, values, strict=True))}


def write(found: Comparison, folder: Path) -> Path:
    """Write comparison.json, .csv, .parquet, .tex and .html and plots/, and return the page's path."""
    from fedinv.report.export import latex
    from fedinv.report.plots import canvas, comparison_plots, sweep_plot

    place = StudyFolder(folder)
    columns = (*dict.fromkeys(key for point in found.swept for key in point.values), *COLUMNS)
    write_sheets(list(lines(found)), columns, place.comparison)
    files.write(place.comparison("tex"), latex.table(found))
    plots = {name: canvas.drawn(plot, "png", "svg", "pdf") for name, plot in _plots(found).items()}
    for name, forms in plots.items():
        for form, content in forms.items():
            files.write(place.plot(name, form), content)
    filters = {"percent": percent, "hits": hits, "points": points, "breakable": breakable}
    values = {
        "found": found,
        "picture": canvas.embedded(comparison_plots.front(found, names=False)),
        "sweep": [canvas.embedded(one) for one in sweep_plot.panels(found)] if found.swept else [],
        "numbered": [comparison_plots.called(row) for row in comparison_plots.placed(found)],
        "lost": lost,
        "epsilon": epsilon,
        "shown": shown,
        "found_leak": found_leak,
        "shown_leakage": shown_leakage,
        "leaked": leaked_text,
        "by_reason": by_reason,
        "ended": not_to_the_end({row.defenses: row.unfinished for row in found.rows}),
        "metric_value": metric_value,
        "headline": headline,
        "weak_text": weak_text,
    }
    page = rendered("comparison.html.j2", filters, values)
    files.write(place.comparison("html"), page)
    # last: where it is, so is all else, wherever a stop comes
    files.write_json(place.comparison("json"), found.model_dump(mode="json"))
    return place.comparison("html")


def shown(row: Row, attack: str) -> Sequence[DefenseLeak]:
    """The leaks of one attack past a stack of defenses: static, then adaptive where there is one."""
    return [leak for leak in row.leaks if leak.attack == attack]


def found_leak(row: Row, attack: str, variant: str) -> DefenseLeak | None:
    """The leak of one attack in one variant past a stack of defenses; None where it was not run."""
    return next((leak for leak in shown(row, attack) if leak.variant == variant), None)


def _plots(found: Comparison) -> dict[str, "canvas.Plot"]:
    from fedinv.report.plots import comparison_plots, sweep_plot

    plots = {"heat": comparison_plots.heat(found), "front": comparison_plots.front(found)}
    return {**plots, "sweep": sweep_plot.curves(found)} if found.swept else plots
