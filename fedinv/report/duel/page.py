"""A duel's files: JSON, CSV and Parquet for other programs, and an HTML page with the matrix and the curve."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedinv.report.frames import write_sheets
from fedinv.report.html import breakable, rendered
from fedinv.results.duel import COMBINED, Duel, Share
from fedinv.results.run import Rate
from fedinv.results.wording import by_reason, headline, hits, measure_text, percent
from fedinv.storage import files
from fedinv.storage.run_folder import StudyFolder

COLUMNS = (
    "deviation", "evasion", "detector", "auc",
    "tpr_at_1", "tpr_at_1_low", "tpr_at_1_high", "tpr_at_01", "tpr_at_01_low", "tpr_at_01_high", "messages",
    "recovered", "recovered_low", "recovered_high", "guess", "records", "past",
)  # fmt: skip
"""Columns of duel.csv and duel.parquet; `tpr_at_1` and `tpr_at_01` are at 1 % and 0.1 % false alarms."""


def lines(found: Duel) -> Iterator[dict[str, Any]]:
    """One row of the CSV and Parquet files for each detector and deviation, then one for each evasion, by column name.

    Rows whose deviation is empty are of honest messages: false alarms.
    """
    records = {one.deviation: one.recovered for one in found.opponents}
    for alarm in found.alarms:
        yield _row("", "", alarm.detector, None, alarm.at_1, alarm.at_01, None, None)
    for one in found.seen:
        yield _row(one.deviation, "", one.detector, one.auc, one.at_1, one.at_01, records.get(one.deviation), None)
    for evasion in found.evasions:
        if not evasion.plain:
            yield _row(
                evasion.deviation, evasion.how, COMBINED, None, evasion.flagged, None, evasion.recovered, evasion.past
            )


def _row(deviation: str, how: str, detector: str, auc: float | None, at_1: Share | None, at_01: Share | None,
         rate: Rate | None, past: float | None) -> dict[str, Any]:  # fmt: skip
    shares = [value for share in (at_1, at_01) for value in ((share.value, *share.ci95) if share else (None,) * 3)]
    counted = at_1 or at_01
    low, high = rate.ci95 if rate and rate.ci95 else (None, None)
    values = (
        deviation, how, detector, auc, *shares, counted and counted.count,
        rate and rate.value, low, high, rate and rate.prior, rate and rate.count, past,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def write(found: Duel, folder: Path) -> Path:
    """Write duel.json, .csv, .parquet, .tex and .html and plots/, and return the page's path."""
    from fedinv.report.duel.text import share_text
    from fedinv.report.export import latex
    from fedinv.report.plots import canvas, duel_plots

    place = StudyFolder(folder)
    write_sheets(list(lines(found)), COLUMNS, place.duel)
    files.write(place.duel("tex"), latex.duel_table(found))
    plots = {"matrix": duel_plots.matrix(found), "curve": duel_plots.curve(found)}
    pictures = {name: canvas.drawn(plot, "png", "svg", "pdf") for name, plot in plots.items()}
    for name, forms in pictures.items():
        for form, content in forms.items():
            files.write(place.plot(name, form), content)
    values = {
        "found": found,
        "curve": canvas.uri(pictures["curve"]["svg"]),
        "shares": {(one.deviation, one.detector): one for one in found.seen},
        "alarms": {one.detector: one for one in found.alarms},
        "lines": [*found.detectors, COMBINED],
        "by_reason": by_reason,
        "share_text": share_text,
        "measure_text": measure_text,
        "headline": headline,
    }
    filters = {"percent": percent, "hits": hits, "breakable": breakable}
    files.write(place.duel("html"), rendered("duel.html.j2", filters, values))
    # last: where it is, so is all else, wherever a stop comes
    files.write_json(place.duel("json"), found.model_dump(mode="json"))
    return place.duel("html")
