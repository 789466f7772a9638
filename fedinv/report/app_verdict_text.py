"""Prints what a server reads off the updates of an app of one's own, and says it to pipelines as JUnit XML."""

from collections.abc import Sequence
from xml.etree import ElementTree

from rich.console import Console

from fedinv.errors import plain
from fedinv.report.terminal import printable, table
from fedinv.results.app_verdict import AppVerdict, UpdateVerdict
from fedinv.results.judged import Judged
from fedinv.results.run import Rate
from fedinv.results.wording import hits, percent

TRUTH = ("round", "client", "judged", "claims right", "verified right", "labels", "records right", "fields right")
HEADS = ("round", "client", "reports", "at least", "layer", "inputs", "attack", "verified", "s")


def show_verdict(found: AppVerdict) -> None:
    """Print a verdict for people."""
    found = printable(found)
    console = Console()
    console.print(f"\n{found.headline}\n", style="bold", highlight=False, markup=False)
    if found.updates:
        console.print(table(HEADS, [_row(one) for one in found.updates], console.width))
    if found.judged:
        console.print("\nAgainst the truth:", highlight=False, markup=False)
        console.print(table(TRUTH, [judged_row(one) for one in found.judged], console.width))
    for note in dict.fromkeys(note for one in found.judged for note in one.notes):
        console.print(f"note: {note}", highlight=False, markup=False)
    told = dict.fromkeys(note for one in found.updates if not one.verified for note in one.notes)
    for note in list(told)[:10]:
        console.print(f"nothing: {note}", highlight=False, markup=False)
    for line in found.skipped:
        console.print(f"left out: {line}", highlight=False, markup=False)


def _row(one: UpdateVerdict) -> tuple[str, ...]:
    reports, least = ("-" if count is None else str(count) for count in (one.claimed, one.least))
    labels = f" ({', '.join(f'{count} of {label}' for label, count in one.labels.items())})" if one.labels else ""
    told = (one.layer or "-", one.inputs or "-", one.attack or "-", f"{one.verified}{labels}", f"{one.seconds:.1f}")
    return (str(one.round), str(one.client), reports, least, *told)


def judged_row(one: Judged) -> tuple[str, ...]:
    """One update's row of TRUTH."""
    labels = "-" if one.labels_right is None else f"{one.labels_right} of {one.right}"
    counts = (f"{one.right} of {one.claimed}", f"{one.verified_right} of {one.verified}", labels)
    return (str(one.round), str(one.client), one.inputs or "-", *counts, *judged_shares(one))


def judged_shares(one: Judged) -> list[str]:
    """Right records and fields as "7 of 8 (95 % CI 47.3-99.7, guess 0.0 %)"; a dash where nothing was judged."""
    return ["-" if rate is None else _rate(rate) for rate in (one.recovered, one.fields)]


def _rate(rate: Rate) -> str:
    if rate.ci95 is None:
        return percent(None)
    low, high = (100 * end for end in rate.ci95)
    return f"{hits(rate)} of {rate.count} (95 % CI {low:.1f}-{high:.1f}, guess {percent(rate.prior)})"


def junit(found: AppVerdict, failures: Sequence[tuple[UpdateVerdict, str]]) -> str:
    """A JUnit XML document with a test case for each update, failed where a reason is given."""
    reasons = {id(one): reason for one, reason in failures}
    suite = ElementTree.Element(
        "testsuite", name="fedinv gate", tests=str(len(found.updates)), failures=str(len(failures))
    )
    for one in found.updates:
        case = ElementTree.SubElement(
            suite, "testcase", classname=plain(found.network), name=f"round {one.round} client {one.client}"
        )
        case.set("time", f"{one.seconds:.3f}")
        if id(one) in reasons:
            ElementTree.SubElement(case, "failure", message=plain(reasons[id(one)]))
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"
