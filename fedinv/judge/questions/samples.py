"""Generated records: how close are they to true ones, and do they reveal a class's shares of sensitive values?"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.attack import Sample
from fedinv.judge.codebook import Layout
from fedinv.judge.guess import simulated
from fedinv.results.intervals import clopper_pearson, share_interval
from fedinv.results.run import Exhibit, Measure
from fedinv.task.columns import Categorical, Column
from fedinv.task.schema import Schema

DRAWS = 1000
"""Number of records drawn from the published marginals as the guess."""
SHOWN = 3
"""Number of generated records in the table of examples."""


def samples(
    made: Sample, truth: Sample, schema: Schema, tolerance: float, rng: np.random.Generator
) -> tuple[list[Measure], Exhibit]:
    """Compare generated records (n,) with true ones; the prior is that of records made from the dictionary alone.

    Those are draws from the published frequencies, or as many times every column's most frequent value, whichever has
    more in common with simulated people.

    Returns the fields in common with the nearest true record, complete copies, the shares of sensitive values in each
    class, and a table of the nearest pairs.
    """
    drawn = _guessed(schema, tolerance, rng)
    ours, nearest = _nearest(made.records, truth.records, schema, tolerance)
    guessed, _ = _nearest(drawn, truth.records, schema, tolerance)
    whole = int((ours == len(schema.columns)).sum())
    shares = ours / len(schema.columns)
    measures = [
        Measure(
            name="fields of the nearest true record that a sample has",
            value=float(shares.mean()),
            count=len(ours),
            ci95=share_interval(shares),
            prior=float(guessed.mean() / len(schema.columns)),
        ),
        Measure(
            name="samples that are somebody's whole record",
            value=whole / len(ours),
            count=len(ours),
            ci95=clopper_pearson(whole, len(ours)),
            prior=float((guessed == len(schema.columns)).mean()),
        ),
    ]
    sensitive = [c for c in schema.columns if c.sensitive and isinstance(c, Categorical)]
    measures += [_makeup(column, made, truth, schema, rng) for column in sensitive]
    return measures, _exhibit(made, truth, schema, nearest, ours)


def _guessed(schema: Schema, tolerance: float, rng: np.random.Generator) -> Tensor:
    """The strongest guess of a record that is near to somebody's, chosen on people drawn from the dictionary."""
    people = torch.from_numpy(Layout(schema, tolerance).valid(simulated(schema, DRAWS, rng)))
    choices = (schema.draw(DRAWS, rng), schema.guess(1))
    return max(choices, key=lambda made: _nearest(made, people, schema, tolerance)[0].mean())


def _nearest(
    records: Tensor, truth: Tensor, schema: Schema, tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Largest number of fields in common with a true record (n,), and the position of that record (n,)."""
    common = torch.zeros(len(records), len(truth), dtype=torch.int64)
    for column, at in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Categorical):
            common += records[:, at].argmax(1)[:, None] == truth[:, at].argmax(1)[None]
        else:
            common += (records[:, at] - truth[:, at].T).abs() <= tolerance
    best = common.max(1)
    return best.values.numpy(), best.indices.numpy()


def _makeup(column: Categorical, made: Sample, truth: Sample, schema: Schema, rng: np.random.Generator) -> Measure:
    """Similarity of a sensitive column's shares to the true ones: 1 minus total variation, averaged over classes."""
    at = schema.slices[schema.names.index(column.name)]
    published = np.array(column.frequencies) / sum(column.frequencies)
    classes = sorted(set(made.labels.tolist()))

    def similarity(shares: NDArray[np.float64], c: int) -> float:
        true = truth.records[truth.labels == c][:, at].double().mean(0).numpy()
        return float(1 - np.abs(shares - true).sum() / 2)

    values = {c: made.records[made.labels == c][:, at].double().numpy() for c in classes}
    resampled = [
        np.mean([similarity(v[rng.integers(len(v), size=len(v))].mean(0), c) for c, v in values.items()])
        for _ in range(500)
    ]
    low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
    return Measure(
        name=f"likeness of {column.name}'s shares in a class",
        value=float(np.mean([similarity(v.mean(0), c) for c, v in values.items()])),
        count=len(made),
        ci95=(low, high),
        prior=float(np.mean([similarity(published, c) for c in classes])),
    )


def _exhibit(
    made: Sample, truth: Sample, schema: Schema, nearest: NDArray[np.int64], common: NDArray[np.int64]
) -> Exhibit:
    """Table of the generated records with most fields in common with a true one, beside that one."""
    best = np.argsort(-common, kind="stable")[:SHOWN]
    told, true = schema.decode(made.records[best]), schema.decode(truth.records[nearest[best]])
    rows, right = [], []
    for i in range(len(best)):
        for column in schema.columns:
            cells = (true[column.name][i], told[column.name][i])
            rows.append([f"sample {i + 1}", column.name, *(_text(cell, column) for cell in cells)])
            right.append(bool(_equal(*cells, column)))
    return Exhibit(
        title="The samples nearest to anybody, beside that person",
        columns=["sample", "column", "person", "sample's"],
        rows=rows,
        right=list(right),
    )


def _equal(true: object, told: object, column: Column) -> bool:
    if isinstance(true, float) and isinstance(told, float):
        return abs(true - told) <= 0.319 * float(getattr(column, "std", 1.0))
    return bool(true == told)


def _text(value: object, column: Column) -> str:
    return f"{value:.4g} {getattr(column, 'unit', '')}".rstrip() if isinstance(value, float) else str(value)
