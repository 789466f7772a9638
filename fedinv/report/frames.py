"""Outcomes as tables: a pandas DataFrame where pandas is installed, a pyarrow Table otherwise."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedinv.results.assessment import Assessment
from fedinv.results.audit import Audit
from fedinv.results.replication import Replication
from fedinv.results.run import AttackResult, InferenceResult, Mean, Measure, Rate, Results
from fedinv.storage import files

MEASURED = (
    "attack", "variant", "target", "measure", "value", "low", "high", "guess", "undefended", "share", "count",
)  # fmt: skip
"""Columns of a run's measures."""
REPLICATED = ("attack", "variant", "target", "measure", "seed", "value", "guess", "undefended")
"""Columns of a replication's measures."""


def frame(table: pa.Table | Sequence[dict[str, Any]]) -> Any:
    """A table, or rows with the same keys, as a pandas DataFrame if pandas can be imported, else as a pyarrow Table."""
    found = table if isinstance(table, pa.Table) else pa.Table.from_pylist(list(table))
    try:
        import pandas  # noqa: F401
    except ImportError:
        return found
    return found.to_pandas()


def measured(results: Results) -> Iterator[dict[str, Any]]:
    """One row for each measure of each attack: its value, 95 % interval, the guess without the update, and the count.

    `share` is True for a share, 0 to 1, and `undefended` the same measure of the same attack without defenses, null
    where it was not taken.
    """
    published: list[AttackResult | InferenceResult] = [*results.attacks, *results.inferences]
    for one in published:
        yield from rows(one)


def rows(found: AttackResult | InferenceResult) -> Iterator[dict[str, Any]]:
    """One row for each measure of one attack, as `measured` has them."""
    if isinstance(found, AttackResult):
        rates: dict[str, Rate | Mean | None] = {
            "field_accuracy": found.field_accuracy,
            "recovered": found.recovered,
            "exact": found.exact,
            "reidentified": found.reidentified,
            "psnr": found.images.psnr if found.images else None,
            "ssim": found.images.ssim if found.images else None,
        }
        for name, rate in rates.items():
            if rate is not None:
                yield _row(found, name, rate, getattr(found.undefended, name, None))
    else:
        before = {one.name: one for one in found.undefended or ()}
        for one in found.measures:
            yield _row(found, one.name, one, before.get(one.name))


def leaks(found: Assessment) -> Iterator[dict[str, Any]]:
    """One row for each change of the scenario; shares between 0 and 1, null where nothing was measured."""
    for one in found.leaks:
        yield {
            "axis": one.axis,
            "change": one.change,
            "records": one.records and one.records.value,
            "attribute": one.attribute and one.attribute.value,
            "membership": one.membership and one.membership.value,
            "utility": one.utility.value,
            "gap": one.gap,
            "run": one.run,
        }


def replicated(found: Replication) -> Iterator[dict[str, Any]]:
    """One row for each measure and seed; null where nothing was measurable at that seed."""
    for one in found.measures:
        for i, seed in enumerate(found.seeds):
            values = one.value.values[i], one.guess.values[i], one.undefended and one.undefended.values[i]
            named = one.attack, one.variant, one.target, one.measure, seed
            yield dict(zip(REPLICATED, (*named, *values), strict=True))


def bounds(found: Audit) -> Iterator[dict[str, Any]]:
    """One row for each method: the epsilon that it measured at least, beside the one that is claimed."""
    for method, epsilon in found.lower_bounds.items():
        right, guesses = found.right[method]
        yield {
            "method": method,
            "lower_bound": epsilon,
            "claimed": found.claimed,
            "right": right,
            "guesses": guesses,
            "verdict": found.verdict,
        }


def _row(
    result: AttackResult | InferenceResult,
    measure: str,
    found: Rate | Mean | Measure,
    undefended: Rate | Mean | Measure | None,
) -> dict[str, Any]:
    low, high = found.ci95 or (None, None)
    before = None if undefended is None else undefended.value
    share = found.share if isinstance(found, Measure) else isinstance(found, Rate)
    values = found.value, low, high, found.prior, before, share, found.count
    return dict(zip(MEASURED, (result.kind, result.variant, result.target, measure, *values), strict=True))


def write_sheets(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], place: Callable[[str], Path]) -> None:
    """Write rows with these columns as CSV and as Parquet, to what `place` gives for the endings csv and parquet."""
    import pyarrow.parquet as pq

    text, sink = io.StringIO(), io.BytesIO()
    sheet = csv.DictWriter(text, columns)
    sheet.writeheader()
    sheet.writerows(rows)
    files.write(place("csv"), text.getvalue())
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    files.write(place("parquet"), sink.getvalue())
