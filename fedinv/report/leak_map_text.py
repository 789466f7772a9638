"""Prints the leak map of an update: a table a layer, then what each attack would read, or why it does not apply."""

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from fedinv.report.terminal import printable, table
from fedinv.results.leak_map import LayerLeak, LeakMap

HEADS = ("layer", "kind", "fed by", "gate", "uses", "units/rec.", "rank", "separable")


def show_leak_map(found: LeakMap) -> None:
    """Print a leak map for people."""
    found = printable(found)
    console = Console()
    console.print(f"\n{found.headline}\n", style="bold", highlight=False, markup=False)
    console.print(table(HEADS, [_row(one, found.network) for one in found.layers], console.width))
    console.print(f"\n{behind(found)}", highlight=False, markup=False)
    for names, lines in alike(found).items():
        console.print(f"{', '.join(names)}:", highlight=False, markup=False)
        for line in lines:
            console.print(Padding(Text(line), (0, 0, 0, 2)))
    if found.at_once:
        console.print(f"all layers at once: {' and '.join(found.at_once)} can be run on it", highlight=False)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _row(one: LayerLeak, network: str) -> tuple[str, ...]:
    told = "" if one.separable is None else str(one.separable)
    rank = f"{one.rank}/{one.most}" if one.shape else "-"
    units = f"{one.units_per_record:.3g}" if one.units_per_record else "-"
    return one.name or network, one.kind, one.fed, one.gate, str(one.places), units, rank, told or "-"


def behind(found: LeakMap) -> str:
    """What is known of the number of records behind the update."""
    claimed = "the client reports none" if found.claimed is None else f"the client reports {found.claimed}"
    if found.client == "sum":
        claimed = f"the clients of the sum report {found.claimed} together, and whose a record is stays hidden"
    if found.records is None:
        return f"Records behind it: no rank bounds their number, {claimed}."
    return f"Records behind it: {found.records} or more, by the ranks; {claimed}."


def alike(found: LeakMap) -> dict[tuple[str, ...], list[str]]:
    """What layers tell, those of which the same is said together, in the order of the first of them."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in found.layers:
        groups.setdefault(tuple(says(one)), []).append(one.name or found.network)
    return {tuple(names): list(lines) for lines, names in groups.items()}


def says(one: LayerLeak) -> list[str]:
    """What a layer tells, and of attacks that do not apply why, those with the same reason together."""
    said = [one.tells] if one.tells else []
    said += [f"{kind} would read {what}" for kind, what in one.applies.items()]
    if not one.shape:
        return said or ["nothing of it was on the wire"]
    reasons: dict[str, list[str]] = {}
    for kind, why in one.why_not.items():
        reasons.setdefault(why, []).append(kind)
    said += [f"not {', '.join(kinds)}: {why}" for why, kinds in reasons.items()]
    return [*said, "unknown, not safe: no attack here applies to it"] if one.unknown else said
