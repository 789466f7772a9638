"""What a run and an assessment look like in a terminal."""

from rich.console import Console
from rich.table import Table

from fedinv.report.reading import labels
from fedinv.results.assessment import Assessment
from fedinv.results.run import Rate, Results
from fedinv.results.wording import hits, measure_text

SHOWN = 10
"""Clients that were left out, named one by one."""


def show(results: Results, report: str) -> None:
    """Print a run's verdict, a line for each attack, and where its report is."""
    console = Console()
    console.print(f"\n[bold]{results.headline}[/bold]\n", highlight=False)
    table = Table("attack", "variant", "of", "fields right", "guess", "recovered", "guess", "traced by name", box=None)
    for found in results.attacks:
        table.add_row(
            found.kind,
            found.variant,
            f"{found.records} records",
            _percent(found.field_accuracy),
            f"{found.field_accuracy.prior:.1%}",
            _percent(found.recovered),
            f"{found.recovered.prior:.1%}",
            _percent(found.reidentified) if found.reidentified else "-",
        )
    if results.attacks:
        console.print(table)
    if results.inferences:
        console.print(_inferences(results))
    left_out = results.federation.left_out
    for one in left_out[:SHOWN]:
        console.print(f"left out: client {one.client} in round {one.round} {one.reason}", markup=False)
    if len(left_out) > SHOWN:
        console.print(f"left out: {len(left_out) - SHOWN} more, see results.json", markup=False)
    if results.federation.trained.startswith("one by one"):
        console.print(f"clients were trained {results.federation.trained}", markup=False)
    for note in results.notes:
        console.print(f"data: {note}", markup=False)
    console.print(f"\nreport: {report}", markup=False, highlight=False, soft_wrap=True)


def card(found: Assessment) -> None:
    """The risk card: what was found in words, then a line for each change."""
    console = Console()
    for said in found.findings:
        console.print(f"- {said}", highlight=False, markup=False)
    table = Table("change", "records", "points", "values told", "points", "member AUC", "model", box=None)
    base = found.leaks[0]
    for one in found.leaks:
        cells = []
        for rate, before in ((one.records, base.records), (one.attribute, base.attribute)):
            apart = f"{100 * (rate.value - before.value):+.0f}" if rate and before and one is not base else ""
            cells += [f"{hits(rate)} of {rate.count}" if rate else "-", apart]
        member = f"{one.membership.value:.3f}" if one.membership else "-"
        table.add_row(f"{one.axis}: {one.change}", *cells, member, f"{one.utility.value:.3f}")
    console.print()
    console.print(table)


def _inferences(results: Results) -> Table:
    """What was told beside records, a line for each measure."""
    bounded = any(m.bound is not None for one in results.inferences for m in one.measures)
    heads = ("attack", "told", "of", "value", "guess", *(["theory: at most"] if bounded else []))
    table = Table(*heads, box=None)
    for label, one in zip(labels(results.inferences), results.inferences, strict=True):
        for i, measure in enumerate(one.measures):
            value, guess, bound = measure_text(measure)
            low, high = (measure_text(measure, end)[0] for end in measure.ci95)
            name = label if i == 0 else ""
            limit = [bound or "-"] if bounded else []
            table.add_row(name, measure.name, str(measure.count), rf"{value} \[{low}, {high}]", guess, *limit)
    return table


def _percent(rate: Rate) -> str:
    low, high = rate.ci95
    return f"{rate.value:.1%} [{low:.1%}, {high:.1%}]".replace("[", r"\[")
