"""Reads a run folder into the values that the page and the plots show; names no attack."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedinv.errors import RunError, plain
from fedinv.results.ranking import worst_case
from fedinv.results.run import AttackResult, Calibration, InferenceResult, Results
from fedinv.scenario.reading import read
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files
from fedinv.storage.run_folder import RunFolder
from fedinv.task.columns import Column, Continuous
from fedinv.task.schema import Schema

COLUMNS = ("attack", "variant", "target", "round", "client", "person", "claimed", "confidence")
"""Columns of records.parquet that the page reads, beside those of each field."""
CARDS = 3
"""People whose claimed record the page shows beside the truth."""


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    folder: str
    """Name of the folder, without its parents."""
    scenario: Scenario
    toml: str
    """Text of scenario.toml."""
    results: Results
    schema: Schema
    worst: AttackResult | None
    """The attack on records that leaks most; None where no attack claimed records."""
    rows: pa.Table | None
    """Rows of records.parquet that belong to the worst attack; None without one."""


@dataclass(frozen=True)
class Cell:
    """One field of a person: the true value beside the claimed one, both as text with unit."""

    name: str
    sensitive: bool
    true: str
    claimed: str
    right: bool


@dataclass(frozen=True)
class Card:
    """A person whose record was claimed."""

    who: str
    """The person's identifying columns, such as name and birth date, or else "record" and its row."""
    client: int
    """Number of the client that holds the record, from 0."""
    round: int
    """Number of the attacked round, from 1."""
    traced: str | None
    """Identifying columns of the person whom the register names, and how many are as near; None where there is none."""
    traced_right: bool
    """Whether `traced` is the person of the record, or among those who are as near."""
    traced_says: str
    """The same in a word or two, with a sign."""
    confidence: float | None
    """The attack's own probability that the record is right, 0 to 1."""
    cells: tuple[Cell, ...]
    words_right: float | None = None
    """Share of the words of a text that are right, 0 to 1; None where the record is no text."""

    @property
    def right(self) -> int:
        """Number of fields that are right."""
        return sum(cell.right for cell in self.cells)


def read_run(folder: Path, results: Results | None = None) -> Run:
    """Read a finished run; `results` are those of a run whose results.json is not written yet.

    Raises RunError naming the file that is missing, damaged or of another run.
    """
    place = RunFolder(folder)
    results = files.read_model(Results, place.results) if results is None else results
    schema = files.read_model(Schema, place.schema)
    scenario = read(str(place.scenario))
    worst = worst_case(results.attacks) if results.attacks else None
    return Run(
        folder=folder.resolve().name,
        scenario=scenario,
        toml=place.scenario.read_text(encoding="utf-8"),
        results=results,
        schema=schema,
        worst=worst,
        rows=_rows(place.records, results, worst, schema) if worst else None,
    )


def cards(run: Run) -> tuple[Card, ...]:
    """Up to three people whose records the worst attack claimed, spread evenly from most to fewest right fields.

    Empty for images, and where nothing was claimed.
    """
    if run.rows is None or run.schema.image is not None:
        return ()
    seen: dict[int, Card] = {}
    for row in run.rows.to_pylist():  # a filter of the table would import pyarrow.compute
        if row["claimed"]:
            seen.setdefault(row["person"], _card(row, run.schema))
    ranked = sorted(seen.values(), key=lambda card: -(card.words_right or card.right))
    chosen = dict.fromkeys(np.linspace(0, len(ranked) - 1, min(CARDS, len(ranked))).round().astype(int).tolist())
    return tuple(ranked[position] for position in chosen)


def claimed_texts(folder: Path, results: Results) -> tuple[Card, ...]:
    """`cards` of a run whose records are texts; empty where they are none, and where nothing was claimed."""
    schema = RunFolder(folder).schema
    if not results.attacks or not schema.is_file() or files.read_model(Schema, schema).tokens is None:
        return ()
    return cards(read_run(folder, results))


def by_column(run: Run) -> list[tuple[str, bool, float, float]]:
    """Each column's name, whether it is sensitive, the worst attack's share right, and the guess's.

    In the order of the data dictionary. Records of which nothing was claimed are scored by the guess. Empty for images.
    """
    if run.rows is None or not run.rows.num_rows or run.schema.image is not None:
        return []
    claimed, shares = run.rows["claimed"].to_numpy(), []
    for column in run.schema.columns:
        guessed = run.rows[f"guess:{column.name}"].to_numpy()
        right = np.where(claimed, run.rows[f"right:{column.name}"].to_numpy(), guessed)
        shares.append((column.name, column.sensitive, float(right.mean()), float(guessed.mean())))
    return shares


def calibrated(run: Run) -> list[tuple[str, Calibration]]:
    """Name and calibration, confidence against the truth, of each attack that claimed anything."""
    attacks = run.results.attacks
    return [(label, a.calibration) for label, a in zip(labels(attacks), attacks, strict=True) if a.calibration]


def labels(attacks: Sequence[AttackResult | InferenceResult]) -> list[str]:
    """A name for each attack: its kind, variant and target, and the parameters in which attacks of one name differ."""
    names = []
    for attack in attacks:
        name = (attack.kind, attack.variant, attack.target)
        like = [other.parameters for other in attacks if (other.kind, other.variant, other.target) == name]
        differ = [
            f"{key}={value}"
            for key, value in attack.parameters.items()
            if value is not None and any(p.get(key) != value for p in like)
        ]
        of_sum = ["on the sum"] if attack.target == "sum" else []
        names.append(f"{attack.kind} ({', '.join([attack.variant, *of_sum, *differ])})")
    return names


def number(value: float, column: Continuous) -> str:
    """A value of a column as text with its unit, with decimals down to a tenth of its standard deviation."""
    decimals = 0 if column.integer else min(6, max(0, 1 - math.floor(math.log10(column.std))))
    return f"{value:.{decimals}f} {column.unit}".rstrip()


def _rows(path: Path, results: Results, worst: AttackResult, schema: Schema) -> pa.Table:
    """The worst attack's rows; attacks' rows follow one another in the order of results.json.

    Raises RunError for a file that cannot be read, or whose rows do not fit the results.
    """
    try:
        with pq.ParquetFile(path) as file:  # read_table would import pyarrow.dataset, which takes longer than the file
            table = file.read()
        table.select([*COLUMNS, *(f"{part}:{name}" for name in schema.names for part in ("true", "claimed", "right"))])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{path}: is damaged or missing ({plain(error)}): run again in another folder") from error
    start = sum(attack.records for attack in results.attacks[: results.attacks.index(worst)])
    rows = table.slice(start, worst.records)
    named = rows.select(["attack", "variant", "target"]).to_pylist()
    name = {"attack": worst.kind, "variant": worst.variant, "target": worst.target}
    if table.num_rows != sum(a.records for a in results.attacks) or any(row != name for row in named):
        raise RunError(f"{path}: is not of the same state of the run as results.json: run again")
    return rows


def _card(row: dict[str, Any], schema: Schema) -> Card:
    true = [str(value) for key, value in row.items() if key.startswith("identity:")]
    traced = [str(value) for key, value in row.items() if key.startswith("linked:")]
    return Card(
        who=", ".join(true) or f"record {row['person']}",
        client=row["client"],
        round=row["round"],
        traced=f"{', '.join(traced)}{_among(row['linked_among'])}" if true and row["linked"] is not None else None,
        traced_right=row["linked"] is not None and row["linked"] == row["person"],
        traced_says=_traced(row["linked"] == row["person"], row["linked_among"]),
        confidence=row["confidence"],
        cells=tuple(_cell(row, column) for column in schema.columns),
        words_right=row[f"right:{schema.tokens.name}"] if schema.tokens is not None else None,
    )


def _traced(right: bool, people: int) -> str:
    """Whether the person was named, or is among several of whom only chance picks the right one."""
    if not right:
        return "✗ wrong"
    return "✓ right" if people == 1 else f"the right one is among them, by chance 1 in {people}"


def _among(people: int) -> str:
    """How many others of the register are as near to a claim as the one who is named, as text; empty for none."""
    return "" if people == 1 else f", one of {people} people who are as near"


def _cell(row: dict[str, Any], column: Column) -> Cell:
    def text(value: Any) -> str:
        return number(value, column) if isinstance(column, Continuous) else str(value)

    return Cell(
        name=column.name,
        sensitive=column.sensitive,
        true=text(row[f"true:{column.name}"]),
        claimed=text(row[f"claimed:{column.name}"]),
        right=row[f"right:{column.name}"] == 1,
    )
