"""Outcomes as tables: a pandas DataFrame where pandas is installed, a pyarrow Table otherwise."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from fedinv.results.assessment import Assessment
from fedinv.results.audit import Audit
from fedinv.results.run import AttackResult, InferenceResult, Mean, Measure, Rate, Results


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

    Shares are between 0 and 1; `records` is how many true records the attack was judged on.
    """
    for found in results.attacks:
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
                yield _row(found, name, rate)
    for told in results.inferences:
        for one in told.measures:
            yield _row(told, one.name, one)


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


def _row(result: AttackResult | InferenceResult, measure: str, found: Rate | Mean | Measure) -> dict[str, Any]:
    low, high = found.ci95 or (None, None)
    return {
        "attack": result.kind,
        "variant": result.variant,
        "target": result.target,
        "measure": measure,
        "value": found.value,
        "low": low,
        "high": high,
        "guess": found.prior,
        "count": found.count,
    }
