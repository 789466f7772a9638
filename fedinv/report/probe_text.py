"""Prints whether given records are behind updates: a row an update, then what weakens the comparison."""

from rich.console import Console

from fedinv.report.terminal import printable, table
from fedinv.results.probing import RATES, AtRate, ProbeVerdict, UpdateProbe

HEADS = (
    "round",
    "client",
    "layers",
    *(f"{kind} at {100 * rate:g} %" for rate in RATES for kind in ("found", "false")),
)


def show_probe(found: ProbeVerdict) -> None:
    """Print a verdict for people."""
    found = printable(found)
    console = Console()
    console.print(f"\n{found.headline}\n", style="bold", highlight=False, markup=False)
    if found.updates:
        console.print(table(HEADS, [_row(one, found) for one in found.updates], console.width))
    counted = "members" if found.members else "records"
    console.print(
        f"\n{found.records} {counted} against {found.others} others; 95 % intervals by Clopper and Pearson.",
        highlight=False,
        markup=False,
    )
    words = dict.fromkeys(
        f"{100 * at.rate:g} % not counted: {at.words}" for one in found.updates for at in one.at if at.words
    )
    notes = dict.fromkeys(f"note: {note}" for one in found.updates for note in one.notes)
    for line in (*words, *notes, *(f"note: {note}" for note in found.notes)):
        console.print(line, highlight=False, markup=False)


def found_text(one: AtRate, records: int) -> str:
    """Records found as "31 of 32 (83.8-99.9 %)"; a dash where nothing was counted."""
    return "-" if one.ci95 is None else f"{one.found} of {records} ({_percent(one.ci95)})"


def false_text(one: AtRate, others: int) -> str:
    """Others above the threshold as "10 of 1000 (0.5-1.8 %)"; a dash where nothing was counted."""
    return "-" if one.false_ci95 is None else f"{one.false} of {others} ({_percent(one.false_ci95)})"


def _percent(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f} %"


def _row(one: UpdateProbe, found: ProbeVerdict) -> tuple[str, ...]:
    layers = ", ".join(layer.name or found.network for layer in one.layers if layer.used) or "-"
    counts = [text for at in one.at for text in (found_text(at, found.records), _counted(at, found.others))]
    return (str(one.round), str(one.client), layers, *counts)


def _counted(one: AtRate, others: int) -> str:
    return "-" if one.false is None else f"{one.false} of {others}"
