"""Builds a run's page: one HTML file, escaped, with its style and plots inside."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, get_args

from fedinv.errors import RequestError
from fedinv.federation.agreement import Known
from fedinv.report import reading
from fedinv.report.html import breakable, rendered
from fedinv.report.plots.canvas import uri
from fedinv.report.plots.pictures import drawn as pictured
from fedinv.report.plots.pictures import pictures
from fedinv.report.plots.reliability import sentence
from fedinv.report.reading import Run
from fedinv.results.ranking import worst_fields, worst_names
from fedinv.results.run import Interval, Rate
from fedinv.results.wording import (
    NOT_MEASURABLE,
    counted_text,
    epsilon_text,
    hits,
    measure_text,
    metric_text,
    metric_value,
    no_epsilon_text,
    percent,
    unit_text,
    unlearned,
    vetting_text,
    worst_text,
)
from fedinv.scenario.reading import read
from fedinv.scenario.scenario import Scenario
from fedinv.storage import documents

KNOWN = {
    "architecture": "the network's architecture",
    "loss": "the loss function",
    "schema": "the data dictionary: names, types, ranges and frequencies of the columns, no record",
    "lr": "the optimizer and its settings: learning rate, momentum, weight decay and schedules",
    "batch-size": "the batch size",
    "epochs": "the number of local epochs",
    "defenses": "which defenses are on, and how they are set (the adaptive attacks only)",
}
"""How the page calls each piece of knowledge that a scenario may grant the attacker."""


def page(run: Run, drawn: Mapping[str, bytes]) -> str:
    """The whole report as HTML; `drawn` are its plots by name, SVG."""
    filters = {
        "vetting": vetting_text,
        "percent": _percent,
        "rate": rate,
        "interval": _interval,
        "hits": hits,
        "epsilon": epsilon_text,
        "no_epsilon": no_epsilon_text,
        "one_in": _one_in,
        "bytes": _bytes,
        "seconds": _seconds,
        "settings": _settings,
        "breakable": breakable,
        "measured": measure_text,
        "worst_client": worst_text,
        "drawn": pictured,
    }
    attacks, scenario = run.results.attacks, run.scenario
    labels = reading.labels(attacks)
    called = {id(attack): label for attack, label in zip(attacks, labels, strict=True)}
    fields, names = (worst_fields(attacks), worst_names(attacks)) if attacks else (None, None)
    known = {known: known in scenario.attacker.knows for known in get_args(Known)}
    values = {
        "run": run,
        "scenario": scenario,
        "results": run.results,
        "metric": metric_text(run.results.utility),
        "unlearned": unlearned(run.results.utility),
        "metric_value": metric_value,
        "unit": unit_text(run.results.privacy),
        "labeled": list(zip(labels, attacks, strict=True)),
        "inferences": list(zip(reading.labels(run.results.inferences), run.results.inferences, strict=True)),
        "bounded": any(m.bound is not None for one in run.results.inferences for m in one.measures),
        "worst": run.worst,
        "counted": counted_text(attacks),
        "fields": fields,
        "names": names,
        "label": lambda attack: called[id(attack)],
        "cards": reading.cards(run),
        "pictures": pictures(run),
        "claims": [(label, sentence(found)) for label, found in reading.calibrated(run)],
        "plots": {name: uri(svg) for name, svg in drawn.items()},
        "knows": [KNOWN[word] for word, told in known.items() if told],
        "withheld": [KNOWN[word] for word, told in known.items() if not told],
        "defenses": [defense.model_dump(mode="json") for defense in scenario.defenses],
        "source": scenario.data.model_dump(mode="json"),
        "commands": _commands(run),
    }
    return rendered("run.html.j2", filters, values)


def rate(found: Rate) -> str:
    """A rate with its count and interval: "63 of 64 (98.4 %, 95 % CI 91.6-100.0)", with an en dash.

    "not measurable" where nothing was judged.
    """
    if found.ci95 is None:
        return NOT_MEASURABLE
    total, interval = f"{hits(found)} of {found.count}", f"95 % CI {_interval(found.ci95)}"
    return f"{_together(total)} ({_percent(found.value)}, {_together(interval)})"


def _percent(share: float | None) -> str:
    return _together(percent(share))


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return NOT_MEASURABLE
    return f"{100 * interval[0]:.1f}\u2060\u2013\u2060{100 * interval[1]:.1f}"


def _together(text: str) -> str:
    """The text with no-break spaces for spaces."""
    return text.replace(" ", "\u00a0")


def _one_in(chance: float) -> str:
    return f"1 in {round(1 / chance)}" if chance else "none"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"


def _settings(parameters: Mapping[str, Any]) -> str:
    """Parameters as a scenario writes them, without kind or source and those not set; empty where there are none."""
    return ", ".join(
        f"{key} = {_toml(value)}"
        for key, value in parameters.items()
        if key not in ("kind", "source") and value is not None
    )


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key} = {_toml(one)}" for key, one in value.items() if one is not None)
        return f"{{ {inside} }}"
    return json.dumps(value, ensure_ascii=False)


def _commands(run: Run) -> list[tuple[str, str]]:
    folder = shlex.quote(run.folder)
    inferred = run.results.inferences[0].kind if run.results.inferences else "KIND"
    kind = shlex.quote(run.worst.kind if run.worst else inferred)
    engine = "" if run.results.engine == "inline" else f" --engine {shlex.quote(run.results.engine)}"
    shipped = _shipped(run.scenario)
    again = shlex.quote(shipped) if shipped else f"{folder}/scenario.toml"
    return [
        ("repeat the whole run", f"fedinv run {again}{engine}"),
        ("attack what was observed once more", f"fedinv attack {folder} --attack {kind}"),
        ("write this page anew", f"fedinv report {folder}"),
    ]


def _shipped(scenario: Scenario) -> str | None:
    """The name under which fedinv ships exactly this scenario; None where it does not."""
    if scenario.name not in documents.shipped():
        return None
    attacks = documents.document(scenario.name)[0].get("attacks", ())
    if [one["kind"] for one in attacks] != [one.kind for one in scenario.attacks]:  # without importing them
        return None
    try:
        return scenario.name if read(scenario.name).to_toml() == scenario.to_toml() else None
    except RequestError:
        return None
