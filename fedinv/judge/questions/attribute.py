"""Attribute inference: how often is an unknown field of people inferred whose other fields the attacker knows?"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedinv.attack import Answer, Observation, Question, Sample
from fedinv.federation.streams import stream
from fedinv.judge.questions import Heard, Inference, Setting, column_of
from fedinv.judge.truth import held_out, true_rows
from fedinv.results.intervals import bootstrap_mean, clopper_pearson
from fedinv.results.run import Exhibit, Measure
from fedinv.task.columns import Categorical, Column
from fedinv.task.schema import Schema

PEOPLE = 500
"""Number of people about whom an attack on the trained model is asked, drawn from all clients."""
GRID = 41
"""Number of candidate values of a continuous column, evenly spaced over its range."""
SHOWN = 6
"""Number of people in the table of examples."""


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Give the records and labels of people who were trained on, with the inputs of the asked column set to 0."""
    schema = setting.people.table.schema
    if schema.image is not None:
        return None
    column = column_of(setting)
    rows = _rows(setting, seen)
    records = setting.people.inputs[rows].clone()
    records[:, schema.slices[schema.names.index(column.name)]] = 0
    return Question(Sample(records, setting.people.labels[rows]), column.name, _options(column))


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Inference:
    """Measure the share of right values; the prior is the most frequent value, or the mode of a number."""
    if setting.people.table.schema.image is not None:
        return Inference("told no attribute: the records are images", [])
    schema, column = setting.people.table.schema, column_of(setting)
    rows = np.concatenate([_rows(setting, one.seen) for one in heard])
    if not len(rows):
        return Inference(f"told {column.name} of nobody: no record was behind the updates", [])
    at = schema.slices[schema.names.index(column.name)]
    truth, options = setting.people.inputs[rows][:, at].double(), _options(column).double()
    guess = schema.guess(len(rows))[:, at].double()
    told = guess.clone()
    start = 0
    for one in heard:
        count = len(_rows(setting, one.seen))
        if isinstance(one.answer, Answer) and len(one.answer.scores):
            told[start : start + count] = options[one.answer.scores.argmax(1)]
        start += count
    tolerance = setting.scenario.judge.tolerance
    right, guessed = (_right(values, truth, tolerance) for values in (told, guess))
    measures = [_share(f"right value of {column.name}", right, guessed)]
    imputed = _imputed(setting, rows, column, schema)
    if imputed is not None:
        measures.append(
            _share(f"the same, imputed from {setting.scenario.attacker.auxiliary} others", imputed, guessed)
        )
    if isinstance(column, Categorical) and column.width > 1:
        measures.append(_evenly(column, truth.argmax(1).numpy(), right, guessed, rng))
    best = measures[0]
    says = (
        f"told {column.name} of {int(right.sum())} of {best.count} people whose other fields it knew "
        f"({right.mean():.1%}, guess {guessed.mean():.1%})"
    )
    return Inference(says, measures, exhibits=[_exhibit(setting, column, rows, truth, told, right)])


def _rows(setting: Setting, seen: Observation) -> NDArray[np.int64]:
    if seen.last.received:
        return true_rows(setting.scenario, setting.people, seen.clients, seen.last.round)
    members = np.concatenate(setting.people.shares)
    return stream(setting.scenario.seed, "attribute").permutation(members)[:PEOPLE]


def _options(column: Column) -> torch.Tensor:
    if isinstance(column, Categorical):
        return torch.eye(column.width)
    low, high = ((end - column.mean) / column.std for end in (column.low, column.high))
    return torch.linspace(low, high, GRID)[:, None]


def _right(values: torch.Tensor, truth: torch.Tensor, tolerance: float) -> NDArray[np.bool_]:
    if truth.shape[1] == 1:
        return ((values - truth).abs()[:, 0] <= tolerance).numpy()
    return (values.argmax(1) == truth.argmax(1)).numpy()


def _share(name: str, right: NDArray[np.bool_], guessed: NDArray[np.bool_]) -> Measure:
    hits, total = int(right.sum()), len(right)
    value, prior = float(right.mean()), float(guessed.mean())
    return Measure(name=name, value=value, count=total, ci95=clopper_pearson(hits, total), prior=prior)


def _evenly(
    column: Categorical,
    truth: NDArray[np.int64],
    right: NDArray[np.bool_],
    guessed: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Measure:
    """Mean accuracy over the values that occur (balanced accuracy): rare ones count as much as frequent ones."""
    counts = np.bincount(truth, minlength=column.width)
    weights = 1 / counts[truth]
    value, prior = (float(np.average(v, weights=weights)) for v in (right, guessed))
    return Measure(
        name=f"the same, each value of {column.name} counting alike",
        value=value,
        count=len(truth),
        ci95=bootstrap_mean(right.astype(float), weights, rng),
        prior=prior,
    )


def _imputed(setting: Setting, rows: NDArray[np.int64], column: Column, schema: Schema) -> NDArray[np.bool_] | None:
    """Whether imputation from the auxiliary records alone gets each value right (n,) (Jayaraman and Evans 2022)."""
    granted, _ = held_out(setting.scenario, setting.people)
    if not len(granted):
        return None
    from sklearn.linear_model import LogisticRegression, Ridge

    inputs, labels = setting.people.inputs.double().numpy(), setting.people.labels.double().numpy()[:, None]
    at = schema.slices[schema.names.index(column.name)]
    rest = np.concatenate([np.delete(inputs, np.arange(at.start, at.stop), 1), labels], 1)
    if isinstance(column, Categorical):
        values = inputs[:, at].argmax(1)
        if len(np.unique(values[granted])) < 2:
            return np.asarray(values[rows] == values[granted][0])
        fitted = LogisticRegression(C=0.1, max_iter=500).fit(rest[granted], values[granted])
        return np.asarray(fitted.predict(rest[rows]) == values[rows])
    told = Ridge(10.0).fit(rest[granted], inputs[granted, at.start]).predict(rest[rows])
    return np.asarray(np.abs(told - inputs[rows, at.start]) <= setting.scenario.judge.tolerance)


def _exhibit(
    setting: Setting,
    column: Column,
    rows: NDArray[np.int64],
    truth: torch.Tensor,
    told: torch.Tensor,
    right: NDArray[np.bool_],
) -> Exhibit:
    true, claimed = (column.decode(values.numpy()) for values in (truth, told))
    names = setting.people.table.identities or {}

    def text(value: object) -> str:
        return f"{value:.4g} {getattr(column, 'unit', '')}".rstrip() if isinstance(value, float) else str(value)

    shown = range(min(SHOWN, len(rows)))
    return Exhibit(
        title=f"{column.name}, told from everything else about a person",
        columns=["person", "true", "told"],
        rows=[
            [
                ", ".join(str(who[rows[i]]) for who in names.values()) or f"record {rows[i]}",
                text(true[i]),
                text(claimed[i]),
            ]
            for i in shown
        ],
        right=[bool(right[i]) for i in shown],
    )
