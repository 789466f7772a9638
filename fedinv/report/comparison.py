"""A comparison for the eye: a table in the terminal, files for other programs, and a page with its two pictures."""

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedinv.results.comparison import Comparison, DefenseLeak, Row
from fedinv.results.wording import UNITS, epsilon_text, hits, percent, points
from fedinv.storage import files

if TYPE_CHECKING:
    from rich.table import Table


def table(found: Comparison) -> "Table":
    """One line a stack: what each attack got past it, static then adaptive, and what it costs."""
    from rich.table import Column, Table

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


def lost(row: Row) -> str:
    """Points of the metric that a stack costs, with half the width of the interval."""
    if row.lost.ci95 is None:
        return f"{100 * row.lost.value:+.1f}"
    return f"{100 * row.lost.value:+.1f} \u00b1 {50 * (row.lost.ci95[1] - row.lost.ci95[0]):.1f}"


def epsilon(row: Row) -> str:
    """What a stack guarantees, in short."""
    if row.epsilon is None:
        return "none"
    return f"{epsilon_text(row.epsilon)} a {UNITS[str(row.unit)]}" + (
        "" if row.against_server else ", not against the server"
    )


def show(found: Comparison) -> None:
    """Print the recommendation, the table, and what is dominated."""
    from rich.console import Console

    console = Console()
    console.print(f"\n[bold]{found.recommendation}[/bold]\n", highlight=False)
    console.print(table(found))
    console.print(
        "\nOf what a guesser gets wrong, the share that leaks: told of no defense|knowing it. "
        "Bytes and time as multiples of those without.",
        highlight=False,
    )
    for one in found.dominated:
        console.print(f"- {one.says}", highlight=False, markup=False)
    for name, why in found.failed.items():
        console.print(f"- {name} did not run: {why}", highlight=False, markup=False)


COLUMNS = (
    "defenses", "attack", "variant", "leakage", "leakage_low", "leakage_high", "verdict",
    "recovered", "recovered_low", "recovered_high", "records",
    "fields_right", "fields_guess", "measure", "value", "guess",
    "utility", "utility_lost", "epsilon", "unit", "against_server", "bytes_up", "bytes_ratio",
    "training_seconds", "attack_seconds", "seeds",
)  # fmt: skip


def lines(found: Comparison) -> Iterator[dict[str, Any]]:
    """One line a stack, attack and variant."""
    for row in found.rows:
        for leak in row.leaks:
            whole, fields, measure = leak.recovered, leak.fields, leak.measure
            values = (
                row.defenses, leak.attack, leak.variant, leak.leakage, *leak.ci95, leak.verdict,
                whole and whole.value, whole and whole.ci95[0], whole and whole.ci95[1], whole and whole.count,
                fields and fields.value, fields and fields.prior,
                measure and measure.name, measure and measure.value, measure and measure.prior,
                row.utility.value, row.lost.value, row.epsilon, row.unit, row.against_server,
                row.bytes_up, row.bytes_ratio, row.seconds, leak.seconds, len(row.runs),
            )  # fmt: skip
            yield dict(zip(COLUMNS, values, strict=True))


def write(found: Comparison, folder: Path) -> Path:
    """Write comparison.json, .csv, .parquet and .html, and return the page's path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files.write_json(folder / "comparison.json", found.model_dump(mode="json"))
    text = io.StringIO()
    sheet = csv.DictWriter(text, COLUMNS)
    sheet.writeheader()
    sheet.writerows(lines(found))
    files.write(folder / "comparison.csv", text.getvalue())
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(lines(found))), sink)
    files.write(folder / "comparison.parquet", sink.getvalue())
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "hits": hits, "points": points}
    pictures = {name: base64.b64encode(png).decode() for name, png in _pictures(found).items()}
    page = environment.get_template("comparison.html.j2").render(
        found=found, pictures=pictures, lost=lost, epsilon=epsilon, shown=shown
    )
    files.write(folder / "comparison.html", page)
    return folder / "comparison.html"


def shown(row: Row, attack: str) -> Sequence[DefenseLeak]:
    """What an attack got past a stack, static first."""
    return [leak for leak in row.leaks if leak.attack == attack]


def _pictures(found: Comparison) -> dict[str, bytes]:
    from fedinv.report import matrix

    return {"heat": matrix.heat(found), "front": matrix.front(found)}
