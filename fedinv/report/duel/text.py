"""Prints a duel in a terminal: the recommendation, who sees what, who gets what, and what gets past."""

from collections.abc import Sequence

from rich.console import Console

from fedinv.report.terminal import printable, show_advice, table
from fedinv.results.duel import COMBINED, Duel, Evasion, Opponent, Share
from fedinv.results.wording import by_reason, hits, measure_text, percent


def show_duel(found: Duel) -> None:
    """Print the recommendation, three tables at the console's width, and what was not tried."""
    found = printable(found)
    console = Console()
    show_advice(console, found.recommendation)
    for rate, name in ((0.01, "1 %"), (0.001, "0.1 %")):
        if rate == 0.01 or any(one.at_01 is not None for one in found.seen):
            console.print(f"% of crafted messages flagged at {name} false alarms", highlight=False, markup=False)
            console.print(table(*_matrix(found, rate), console.width))
            console.print()
    legend = ", ".join(f"{place + 1} {kind}" for place, kind in enumerate(found.detectors))
    console.print(f"Detectors: {legend}. Honest: of other seeds.\n", highlight=False, markup=False)
    if not any(one.at_01 is not None for one in found.seen):
        console.print(
            f"At 0.1 %: -, as {found.honest[0]} honest messages set no such threshold, 1,000 are needed (--seeds).\n",
            highlight=False,
            markup=False,
        )
    console.print(
        table(
            ("deviation", "records in full", "guess", "messages"),
            [_line(one) for one in found.opponents],
            console.width,
        )
    )
    if found.evasions:
        console.print("\nPast the best combination at 1 % false alarms", highlight=False, markup=False)
        heads = ("deviation", "changes", "records", "flagged", "gets past")
        console.print(table(heads, evasion_rows(found.evasions), console.width))
    console.print(
        f"\nIn brackets 95 % intervals, which take messages for independent: {found.honest[1]} honest ones come from "
        f"{found.models[1]} models. Thresholds are of other seeds. Gets past: records times messages not flagged.",
        highlight=False,
        markup=False,
    )
    for said in by_reason(found.not_tried):
        console.print(f"- not tried: {said}", highlight=False, markup=False)
    for name, why in found.failed.items():
        console.print(f"- {name} did not run: {why}", highlight=False, markup=False)


def share_text(share: Share | None, rate: bool = True) -> str:
    """A share in percent with its interval, as "98 [95-99]"; "-" where it cannot be stated."""
    if share is None:
        return "-"
    low, high = share.ci95
    return f"{100 * share.value:.0f} [{100 * low:.0f}-{100 * high:.0f}]" if rate else f"{100 * share.value:.0f}"


def _matrix(found: Duel, rate: float) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Heads and rows of the table of deviations by detectors: the shares, and of the best combination intervals too."""
    numbers = {name: str(place + 1) for place, name in enumerate(found.detectors)}
    shares = {(one.deviation, one.detector): one.at_1 if rate == 0.01 else one.at_01 for one in found.seen}
    alarms = {one.detector: one.at_1 if rate == 0.01 else one.at_01 for one in found.alarms}
    rows = [
        (
            name,
            *(share_text(shares.get((name, kind)), False) for kind in found.detectors),
            share_text(shares.get((name, COMBINED))),
        )
        for name in found.deviations
    ]
    honest = (
        "(honest)",
        *(share_text(alarms.get(kind), False) for kind in found.detectors),
        share_text(alarms.get(COMBINED)),
    )
    return ("deviation", *numbers.values(), "best together"), [*rows, honest]


def _line(one: Opponent) -> tuple[str, str, str, str]:
    if one.recovered is None:
        said = "-"
        guess = "-"
        if one.measure is not None:
            value, guess, _ = measure_text(one.measure)
            said = f"none: {one.measure.name} {value}"
        return one.deviation, said, guess, str(one.messages)
    rate = one.recovered
    interval = "" if rate.ci95 is None else f" [{100 * rate.ci95[0]:.0f}-{100 * rate.ci95[1]:.0f} %]"
    said = f"{hits(rate)} of {rate.count}, {percent(rate.value)}{interval}"
    return one.deviation, said, percent(rate.prior), str(one.messages)


def evasion_rows(evasions: Sequence[Evasion]) -> list[tuple[str, ...]]:
    """Rows of the table of evasions; a deviation is named in its first."""
    rows: list[tuple[str, ...]] = []
    before = ""
    for one in evasions:
        how = "nothing" if one.plain else f"{one.how} (the model)" if one.honest else one.how
        name = one.deviation if one.deviation != before else ""
        rows.append((name, how, percent(one.recovered.value), share_text(one.flagged), percent(one.past)))
        before = one.deviation
    return rows
