"""Runs, comparisons, assessments and audits as notebooks show them: fragments of HTML, escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedinv.errors import RequestError, RunError
from fedinv.report.comparison_page import epsilon, lost
from fedinv.report.html import rendered
from fedinv.report.plots.pictures import Picture, pictures
from fedinv.report.reading import CARDS, Card, cards, labels, read_run
from fedinv.results.assessment import Assessment
from fedinv.results.audit import Audit
from fedinv.results.comparison import Comparison
from fedinv.results.replication import ReplicatedMeasure, Replication
from fedinv.results.run import Rate, Results
from fedinv.results.wording import (
    NOT_MEASURABLE,
    by_reason,
    hits,
    leaked_text,
    measure_text,
    metric_text,
    metric_value,
    percent,
    shown_leakage,
    spread_text,
)

PALE, DARK = (255, 247, 236), (179, 0, 0)
"""Colors, red, green and blue from 0 to 255, of a cell in which nothing leaked, and of one in which everything did."""


def run_html(results: Results, folder: Path) -> str:
    """A run: the verdict, three people beside their claimed records, and a line for each attack colored by leakage."""
    rows = [
        (label, [_share(one.field_accuracy), _share(one.recovered), _share(one.reidentified)], one.records)
        for label, one in zip(labels(results.attacks), results.attacks, strict=True)
    ]
    told = [
        (label, measure.name, *measure_text(measure)[:2], measure.count)
        for label, one in zip(labels(results.inferences), results.inferences, strict=True)
        for measure in one.measures
    ]
    return _render("run", {"says": results.headline, **_people(folder), "rows": rows, "told": told, "folder": folder})


def comparison_html(found: Comparison, folder: Path) -> str:
    """A comparison: the recommendation, three people of the run without defenses, and the heat map of leakage."""
    rows = [
        (
            row.defenses,
            [_worst_of([leak for leak in row.leaks if leak.attack == attack]) for attack in found.telling],
            leaked_text(row.worst),
            lost(row),
            epsilon(row),
        )
        for row in found.rows
    ]
    people = _people(folder / found.rows[0].runs[0]) if found.rows and found.rows[0].runs else _nobody()
    return _render(
        "comparison", {"says": found.recommendation, "found": found, "rows": rows, "folder": folder, **people}
    )


def replication_html(found: Replication, folder: Path) -> str:
    """A replication: the outcome in a sentence, and a line for each measure with its mean and standard deviation."""
    told = [
        (f"{one.attack} ({one.variant})", one.measure.replace("_", " "), *_spreads(one), one.count)
        for one in found.measures
    ]
    return _render("run", {"says": found.says, **_nobody(), "rows": [], "told": told, "folder": folder})


def _spreads(one: ReplicatedMeasure) -> tuple[str, str]:
    return spread_text(one.value, one.share), spread_text(one.guess, one.share)


def assessment_html(found: Assessment, folder: Path) -> str:
    """An assessment: the findings, three people of the scenario as it is, and the heat map of changes by leakage."""
    rows = [
        (
            f"{one.axis}: {one.change}",
            [_share(one.records), _share(one.attribute), _auc(one.membership)],
            metric_value(one.utility.value),
        )
        for one in found.leaks
    ]
    people = _people(folder / found.leaks[0].run) if found.leaks else _nobody()
    metric = metric_text(found.leaks[0].utility) if found.leaks else ""
    first, *others = found.findings or ["Nothing was found."]
    return _render(
        "assessment", {"says": first, "others": others, "rows": rows, "metric": metric, "folder": folder, **people}
    )


def audit_html(found: Audit, folder: Path) -> str:
    """An audit: the verdict and the epsilons: the claimed one, the ledger's, and the lower bounds."""
    return _render("audit", {"says": found.says, "found": found, "folder": folder})


def color(share: float) -> str:
    """CSS of a cell's background for a share from 0 (pale) to 1 (dark red)."""
    part = min(1.0, max(0.0, share))
    red, green, blue = (round(pale + part * (dark - pale)) for pale, dark in zip(PALE, DARK, strict=True))
    return f"background:rgb({red},{green},{blue});color:{'#fff' if part > 0.5 else '#111'}"


def _share(rate: Rate | None) -> tuple[str, str]:
    """Text of a cell with a rate, and its color by the leakage above a guess."""
    if rate is None:
        return "-", ""
    if rate.numbers is None:
        return NOT_MEASURABLE, ""
    value, _, prior = rate.numbers
    above = 0.0 if prior >= 1 else (value - prior) / (1 - prior)
    return f"{hits(rate)} of {rate.count}: {percent(value)} (guess {percent(prior)})", color(above)


def _auc(rate: Rate | None) -> tuple[str, str]:
    if rate is None or rate.value is None:
        return "-" if rate is None else NOT_MEASURABLE, ""
    return f"AUC {rate.value:.3f} (guess 0.5)", color(2 * rate.value - 1)


def _worst_of(found: list[Any]) -> tuple[str, str]:
    """Text of a cell with an attack's static and adaptive leakage, and its color by the larger one."""
    if not found:
        return "-", ""
    if all(leak.verdict == "attack too weak" for leak in found):
        return "attack too weak", ""
    found = [leak for leak in found if leak.verdict != "attack too weak"]
    said = " | ".join(f"{leak.variant} {percent(shown_leakage(leak.leakage))}" for leak in found)
    return said, color(max(leak.leakage for leak in found))


def _people(folder: Path) -> dict[str, tuple[Card, ...] | tuple[Picture, ...]]:
    """Up to three people, or images, of a run beside the worst attack's claims; empty where its folder is gone."""
    try:
        run = read_run(folder)
    except (RunError, RequestError):
        return _nobody()
    return {"cards": cards(run), "pictures": pictures(run)[:CARDS]}


def _nobody() -> dict[str, tuple[Card, ...] | tuple[Picture, ...]]:
    return {"cards": (), "pictures": ()}


def _render(kind: str, content: Mapping[str, Any]) -> str:
    return rendered("notebook.html.j2", {"percent": percent}, {"kind": kind, "by_reason": by_reason, **content})
