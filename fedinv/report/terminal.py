"""Prints runs, replications, assessments, audits and comparisons in a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from fedinv.errors import plain
from fedinv.report.comparison_page import epsilon, lost
from fedinv.report.reading import Card, labels
from fedinv.results.assessment import Assessment, change
from fedinv.results.audit import Audit
from fedinv.results.comparison import NONE, Comparison, Row
from fedinv.results.replication import Replication
from fedinv.results.run import Privacy, Rate, Results
from fedinv.results.wording import (
    NOT_MEASURABLE,
    by_reason,
    counted_text,
    epsilon_text,
    headline,
    hits,
    leaked_text,
    measure_text,
    metric_value,
    no_epsilon_text,
    not_to_the_end,
    shown_leakage,
    spread_text,
    unit_text,
    unlearned,
    vetting_text,
    weak_text,
    worst_text,
)

Outcome = TypeVar("Outcome", bound=BaseModel)

SHOWN = 10
"""Clients left out of a round that are listed one by one; beyond, only their number is printed."""
STACK = 20
"""Letters up to which a stack's name is not wrapped."""

LONG = 10.0
"""Seconds after which a bar shows percent and remaining time."""


class Bar(Protocol):
    """Function that moves one progress bar."""

    def __call__(self, share: float, now: str = "") -> None:
        """Move the bar to a share done, 0 to 1, and show the name of the current work, if any, beside it."""


class Steps(Protocol):
    """Function that opens progress bars."""

    def __call__(self, name: str) -> Bar:
        """Open a progress bar called `name`, and return the function that moves it."""


class Remaining(ProgressColumn):
    """Column with percent and remaining time of a bar, shown once it has taken LONG seconds."""

    def render(self, task: Task) -> Text:
        """The text for one bar, such as "40 %, 0:15 left"; "estimating" as long as nothing of it is done."""
        if task.finished or task.elapsed is None or task.elapsed < LONG:
            return Text("")
        if not task.completed:
            return Text("estimating the time left")
        left = round(task.elapsed * (1 - task.completed) / task.completed)
        hours, minutes = divmod(left // 60, 60)
        clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
        return Text(f"{100 * task.completed:.0f} %, {clock} left")


@contextmanager
def bars(shown: bool) -> Iterator[Steps]:
    """Open progress bars on stderr within a block; with `shown` False they are opened and not displayed."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:42}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        Remaining(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:

        def step(name: str) -> Bar:
            task = progress.add_task(name, total=1.0)

            def move(share: float, now: str = "") -> None:
                progress.update(task, completed=share, description=f"{name}: {now}" if now else name)

            return move

        yield step


def printable(found: Outcome) -> Outcome:
    """The same outcome with all texts of it safe to print: none of a file or a client can steer the terminal."""

    def safe(value: Any) -> Any:
        if isinstance(value, str):
            return "\n".join(plain(line, 5000) for line in value.split("\n"))
        if isinstance(value, Mapping):
            return {safe(name): safe(one) for name, one in value.items()}
        return [safe(one) for one in value] if isinstance(value, list | tuple) else value

    return type(found).model_validate(safe(found.model_dump()))


def show_run(results: Results, report: str, read: Sequence[Card] = ()) -> None:
    """Print a run's verdict, a line for each attack, the clients left out, and the path of its report.

    `read` are claimed texts, of which the first is shown beside the true one; records of a table are left to the page.
    """
    results = printable(results)
    console = Console()
    console.print(f"\n{results.headline}\n", style="bold", highlight=False, markup=False)
    right = next((f"{found.element}s right" for found in results.attacks), "fields right")
    heads = ("attack", "variant", "records", right, "recovered", "traced to a person")
    rows = [
        (
            found.kind,
            found.variant,
            str(found.records),
            _measured(found.field_accuracy),
            _measured(found.recovered) + (f" worst {worst_text(found)}" if worst_text(found) else ""),
            _measured(found.reidentified) if found.reidentified else "-",
        )
        for found in results.attacks
    ]
    if rows:
        console.print(table(heads, rows, console.width))
        console.print(
            "\nIn brackets 95 % intervals; guess: the same without any update.", highlight=False, markup=False
        )
    if counted := counted_text(results.attacks):
        console.print(counted, highlight=False, markup=False)
    for card in read[:1]:
        for name, text in (("true", card.cells[0].true), ("read off the update", card.cells[0].claimed)):
            console.print(f"{name}: {plain(text)}", markup=False, highlight=False)
    for found in results.attacks:
        if found.images is not None:
            psnr = found.images.psnr
            said = f"{found.images.called} at {psnr.value:.1f} dB PSNR, a guesser's at {psnr.prior:.1f} dB"
            console.print(f"{found.kind} ({found.variant}): {said}", markup=False, highlight=False)
    for found in results.attacks:
        if found.verified is not None and found.verified < found.claimed:
            unverified = f"{found.claimed - found.verified} of {found.claimed} claimed records are unverified"
            said = f"{found.kind} ({found.variant}): {unverified}, the attacker cannot tell that they are right"
            console.print(said, markup=False, highlight=False)
    for found in results.attacks:
        if found.owned is not None:
            whole = round((found.recovered.value or 0) * found.recovered.count)
            said = f"of {whole} recovered records {found.owned} were traced to their client"
            console.print(f"{found.kind} ({found.variant}): {said}", markup=False, highlight=False)
    if results.inferences:
        console.print(_inferences(results, console.width))
    left_out = results.federation.left_out
    for one in left_out[:SHOWN]:
        console.print(f"left out: client {one.client} in round {one.round} {one.reason}", markup=False)
    if len(left_out) > SHOWN:
        console.print(f"left out: {len(left_out) - SHOWN} more, see results.json", markup=False)
    if (vetting := vetting_text(results.federation.vetting)) is not None:
        console.print(f"vetting: {vetting}", markup=False, highlight=False)
    if results.federation.trained.startswith("one by one"):
        console.print(f"clients were trained {results.federation.trained}", markup=False)
    for note in results.notes:
        console.print(f"data: {note}", markup=False)
    if unlearned(results.utility):
        console.print(f"model: {unlearned(results.utility)}", markup=False, highlight=False)
    console.print(f"\nreport: {report}", markup=False, highlight=False, soft_wrap=True)


def show_price(planned: Privacy) -> None:
    """Print on stderr, before training, the epsilon that the whole run will cost."""
    held = (
        f"epsilon {no_epsilon_text(planned.exceeds)}"
        if planned.epsilon is None
        else f"epsilon {epsilon_text(planned.epsilon)} per {unit_text(planned)}, delta {planned.delta:g}"
        + (f"; excludes {' and '.join(planned.excludes)}" if planned.excludes else "")
    )
    Console(stderr=True).print(f"price in privacy, before training: {held}", markup=False, highlight=False)


def show_replication(found: Replication) -> None:
    """Print the outcome in a sentence, a line for each measure, the model's metric, and the seeds that failed."""
    console = Console()
    console.print(f"\n{found.says}\n", style="bold", highlight=False, markup=False)
    heads = ("measure", "mean ± sd", "lowest to highest", "guess", *(["undefended"] if found.lost else []))
    for by, measures in groupby(found.measures, lambda one: f"{one.attack} ({one.variant})"):
        rows = []
        for one in measures:
            scale = 100 if one.share else 1
            without = [spread_text(one.undefended, one.share) if one.undefended else "-"] if found.lost else []
            span = f"{scale * one.value.low:.3g} to {scale * one.value.high:.3g}"
            spread = (spread_text(one.value, one.share), span, spread_text(one.guess, one.share))
            rows.append((one.measure.replace("_", " "), *spread, *without))
        console.print(by, highlight=False, markup=False)
        console.print(table(heads, rows, console.width))
    if found.utility is not None:
        lost = ""
        if found.lost is not None and found.undefended is not None:
            deviation = "" if found.lost.sd is None else f" \u00b1 {100 * found.lost.sd:.1f}"
            lost = f", without defenses {spread_text(found.undefended, False)}: {100 * found.lost.mean:.1f}{deviation}"
            lost += " points are lost"
        console.print(f"\n{found.metric} {spread_text(found.utility, False)}{lost}", highlight=False, markup=False)
    for seed, why in found.failed.items():
        console.print(f"seed {seed} did not run: {why}", highlight=False, markup=False)


def show_assessment(found: Assessment) -> None:
    """Print the risk card: the findings as sentences, then a table with a line for each change."""
    found = printable(found)
    console = Console()
    for said in found.findings:
        console.print(f"- {said}", highlight=False, markup=False)
    heads = ("change", "records", "points", "values", "points", "member AUC", "model")
    base, rows = found.leaks[0], []
    for one in found.leaks:
        cells = []
        for rate, before in ((one.records, base.records), (one.attribute, base.attribute)):
            apart = change(before, rate)
            cells += [_counted(rate), f"{100 * apart[0]:+.0f}" if apart is not None and one is not base else ""]
        member = metric_value(one.membership.value) if one.membership else "-"
        rows.append((f"{one.axis}: {one.change}", *cells, member, metric_value(one.utility.value)))
    console.print()
    console.print(table(heads, rows, console.width))
    for said in not_to_the_end({one.change: one.unfinished for one in found.leaks}):
        console.print(f"- not tried to the end: {said}", highlight=False, markup=False)
    for said in by_reason(found.not_tried):
        console.print(f"- not tried: {said}", highlight=False, markup=False)


def show_audit(found: Audit) -> None:
    """Print an audit's verdict and a line for each epsilon: claimed, the ledger's, and the lower bounds."""
    found = printable(found)
    console = Console()
    style = "bold red" if found.verdict == "FAIL" else "bold"
    console.print(f"\n{found.says}\n", style=style, highlight=False, markup=False)
    rows = [(f"{found.claimed:.3f}", "claimed" + (" by the scenario" if found.quoted else " by the ledger"), "")]
    if found.quoted and found.ledger is not None:
        rows.append((f"{found.ledger:.3f}", "by the ledger, over all rounds", ""))
    for name, bound in found.lower_bounds.items():
        right, guesses = found.right[name]
        rows.append((f">= {bound:.3f}", name, f"{right} of {guesses} right, {found.canaries} canaries"))
    heads = ("epsilon", f"per {found.unit}, delta {found.delta:g}", "of")
    console.print(table(heads, rows, console.width))


def show_comparison(found: Comparison) -> None:
    """Print the recommendation, the table, the stacks that are dominated, and those that failed."""
    found = printable(found)
    console = Console()
    show_advice(console, found.recommendation)
    console.print(comparison_table(found, console.width))
    console.print(
        "\nOf what a guesser gets wrong, the share that leaks: told of no defense|knowing it; -: no such attack was "
        "run; weak: it gets nothing without defenses either. At worst: the largest, with the 95 % interval of the "
        "largest. Bytes and time as multiples of those without.",
        highlight=False,
    )
    for row in found.rows:
        if row.worst is not None and row.worst.client is not None and row.worst.client.recovered:
            hit = row.worst.client
            said = f"{row.defenses}: {hit.recovered} of {hit.records} records of client {hit.client}, the worst off"
            console.print(f"- {said} ({row.worst.attack}, {row.worst.variant})", highlight=False, markup=False)
    if found.weak:
        console.print(f"- {weak_text(found.weak)}", highlight=False, markup=False)
    for row in found.rows:
        for said in by_reason(row.not_adapted):
            console.print(f"- {row.defenses}, no adaptive attack by {said}", highlight=False, markup=False)
    for said in not_to_the_end({row.defenses: row.unfinished for row in found.rows}):
        console.print(f"- not tried to the end: {said}", highlight=False, markup=False)
    for said in by_reason(found.not_tried):
        console.print(f"- not tried: {said}", highlight=False, markup=False)
    for one in found.dominated:
        console.print(f"- {one.says}", highlight=False, markup=False)
    for name, why in found.failed.items():
        console.print(f"- {name} did not run: {why}", highlight=False, markup=False)


def show_advice(console: Console, said: str) -> None:
    """Print a recommendation's first sentence in bold, and the others below it."""
    first, others = headline(said)
    console.print(f"\n{first}", style="bold", highlight=False, markup=False)
    if others:
        console.print(f"\n{others}", highlight=False, markup=False)
    console.print()


def comparison_table(found: Comparison, width: int) -> Table:
    """A table with a line for each stack of defenses: leakage under each attack, static then adaptive, and its cost.

    Attacks that are too weak everywhere are left out. Where the others do not fit into `width` letters, each one
    gets a line of its own.
    """
    costs = ("at worst", f"{found.metric} lost", "epsilon", "bytes/time")
    rows = [
        (
            _breakable(row.defenses),
            [_cell(row, attack) for attack in found.telling],
            (leaked_text(row.worst), lost(row), epsilon(row), f"{row.bytes_ratio:.2f}/{row.seconds_ratio:.1f}"),
        )
        for row in found.rows
    ]
    beside = table(("defenses", *found.telling, *costs), [(name, *cells, *cost) for name, cells, cost in rows], width)
    if _width(beside) <= width:
        return beside
    below = [
        (name if i == 0 else "", attack, cell, *(cost if i == 0 else ("", "", "", "")))
        for name, cells, cost in rows
        for i, (attack, cell) in enumerate(zip(found.telling, cells, strict=True))
    ]
    return table(("defenses", "attack", "leaks", *costs), below, width)


def _inferences(results: Results, width: int) -> Table:
    """A table of the inferences beside records, a line for each measure."""
    bounded = any(m.bound is not None for one in results.inferences for m in one.measures)
    heads = ("attack", "inferred", "of", "value", "guess", *(["theory: at most"] if bounded else []))
    rows = []
    for label, one in zip(labels(results.inferences), results.inferences, strict=True):
        for i, measure in enumerate(one.measures):
            value, guess, bound = measure_text(measure)
            if measure.ci95 is not None:
                low, high = (measure_text(measure, end)[0] for end in measure.ci95)
                value = f"{value} [{low}, {high}]"
            limit = [bound or "-"] if bounded else []
            name = label if i == 0 else ""
            rows.append((name, measure.name, str(measure.count), value, guess, *limit))
    return table(heads, rows, width)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """A table of at most `width` letters, whose cells wrap at spaces, never inside a word.

    Widths are settled here, as rich would cut words off: each column gets its longest word, and what is left goes to
    those columns first that need least to have no cell broken. Words that do not fit together make the table wider.
    """
    texts = [[head, *(row[position] for row in rows)] for position, head in enumerate(heads)]
    widths = [max((cell_len(word) for text in column for word in text.split()), default=1) for column in texts]
    left = width - sum(widths) - len(widths)
    needs = [max(map(cell_len, column)) - wide for column, wide in zip(texts, widths, strict=True)]
    for position in sorted(range(len(widths)), key=needs.__getitem__):
        more = min(max(0, left), needs[position])
        widths[position] += more
        left -= more
    columns = [Column(head, overflow="fold", width=wide) for head, wide in zip(heads, widths, strict=True)]
    found = Table(*columns, box=None, padding=(0, 1, 0, 0))
    for row in rows:
        found.add_row(*map(Text, row))
    return found


def _width(table: Table) -> int:
    """Width of a table in letters, with one space behind each column."""
    return sum((column.width or 0) + 1 for column in table.columns)


def _measured(rate: Rate) -> str:
    """A rate with its 95 % interval and the guess, as text in percent; "not measurable" where nothing was judged."""
    if rate.numbers is None:
        return NOT_MEASURABLE
    value, (low, high), prior = rate.numbers
    return f"{value:.1%} [{100 * low:.1f}-{100 * high:.1f}] guess {prior:.1%}"


def _counted(rate: Rate | None) -> str:
    """A rate as "12 of 16"; "-" for None, "not measurable" where nothing was judged."""
    if rate is None:
        return "-"
    return f"{hits(rate)} of {rate.count}" if rate.count else NOT_MEASURABLE


def _breakable(stack: str) -> str:
    """A stack's name, if long with spaces after plus signs and before settings, at which it can wrap."""
    return stack if len(stack) <= STACK else stack.replace("+", "+ ").replace(":", " :")


def _cell(row: Row, attack: str) -> str:
    found = [leak for leak in row.leaks if leak.attack == attack]
    if not found:
        return "-"
    told = {
        leak.variant: "weak" if leak.verdict == "attack too weak" else f"{100 * shown_leakage(leak.leakage):.0f}%"
        for leak in found
    }
    if row.defenses == NONE and "adaptive" not in told:
        return told.get("static", "-")
    return f"{told.get('static', '-')}|{told.get('adaptive', '-')}"
