"""What a run and an assessment look like in a terminal."""

from rich.console import Console
from rich.table import Column, Table

from fedinv.report.comparison_page import epsilon, lost
from fedinv.report.reading import labels
from fedinv.results.assessment import Assessment
from fedinv.results.audit import Audit
from fedinv.results.comparison import Comparison, Row
from fedinv.results.run import Rate, Results
from fedinv.results.wording import hits, measure_text

SHOWN = 10
"""Clients that were left out, named one by one."""


def show_run(results: Results, report: str) -> None:
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


def show_assessment(found: Assessment) -> None:
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


def show_audit(found: Audit) -> None:
    """Print the verdict and a line for each epsilon."""
    console = Console()
    color = "red" if found.verdict == "FAIL" else "default"
    console.print(f"\n[bold {color}]{found.says}[/]\n", highlight=False)
    table = Table("epsilon", f"per {found.unit}, delta {found.delta:g}", "of", box=None)
    table.add_row(f"{found.claimed:.3f}", "claimed" + (" by the scenario" if found.quoted else " by the ledger"), "")
    if found.quoted and found.ledger is not None:
        table.add_row(f"{found.ledger:.3f}", "by the ledger, over all rounds", "")
    for name, bound in found.lower_bounds.items():
        right, guesses = found.right[name]
        table.add_row(f">= {bound:.3f}", name, f"{right} of {guesses} right, {found.canaries} canaries")
    console.print(table)


def comparison_table(found: Comparison) -> Table:
    """One line a stack: what each attack got past it, static then adaptive, and what it costs."""
    heads = (*found.attacks, f"{found.metric} lost", "epsilon", "bytes/time")
    wide = min(20, max(len(row.defenses) for row in found.rows))
    first = Column("defenses", overflow="fold", min_width=wide)
    others = [Column(name, overflow="fold", min_width=10 if name == heads[-1] else None) for name in heads]
    out = Table(first, *others, box=None)
    for row in found.rows:
        cells = [_cell(row, attack) for attack in found.attacks]
        cost = f"{row.bytes_ratio:.2f}/{row.seconds_ratio:.1f}"
        out.add_row(row.defenses, *cells, lost(row), epsilon(row), cost)
    return out


def _cell(row: Row, attack: str) -> str:
    found = [leak for leak in row.leaks if leak.attack == attack]
    if not found:
        return "-"
    if any(leak.verdict == "attack too weak" for leak in found):
        return "attack too weak"
    return "|".join(f"{100 * max(0.0, leak.leakage):.0f}%" for leak in found)


def show_comparison(found: Comparison) -> None:
    """Print the recommendation, the table, and what is dominated."""
    console = Console()
    console.print(f"\n[bold]{found.recommendation}[/bold]\n", highlight=False)
    console.print(comparison_table(found))
    console.print(
        "\nOf what a guesser gets wrong, the share that leaks: told of no defense|knowing it. "
        "Bytes and time as multiples of those without.",
        highlight=False,
    )
    for one in found.dominated:
        console.print(f"- {one.says}", highlight=False, markup=False)
    for name, why in found.failed.items():
        console.print(f"- {name} did not run: {why}", highlight=False, markup=False)
