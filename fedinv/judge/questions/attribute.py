"""Attribute inference: how often is an unknown field of people inferred whose other fields the attacker knows?"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedinv.attack import Answer, Observation, Question, Sample
from fedinv.federation.streams import stream
from fedinv.judge.imputation import Imputation, Known, imputed, right
from fedinv.judge.questions import Heard, Inference, Setting, column_of
from fedinv.judge.tally import Tally, tally
from fedinv.judge.truth import held_out, true_rows
from fedinv.results.intervals import share_interval
from fedinv.results.run import Exhibit, Measure
from fedinv.results.wording import percent
from fedinv.task.columns import Categorical, Column

PEOPLE = 500
"""Number of people about whom an attack on the trained model is asked, drawn from all clients."""
GRID = 41
"""Number of candidate values of a continuous column, evenly spaced over its range."""
SHOWN = 6
"""Number of people in the table of examples."""


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Give the records and labels of people who were trained on, with the inputs of the asked column set to 0."""
    schema = setting.people.table.schema
    if not schema.table:
        return None
    column = column_of(setting)
    rows = _rows(setting, seen)
    records = setting.people.inputs[rows].clone()
    records[:, schema.slices[schema.names.index(column.name)]] = 0
    return Question(Sample(records, setting.people.labels[rows]), column.name, _options(column))


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Inference:
    """Measure the share of right values; the prior is the strongest guess from everything but update and model.

    That is the most likely value, or, with auxiliary records, what a model of the other columns imputes.
    """
    if not setting.people.table.schema.table:
        return Inference("told no attribute: the records are no rows of a table", [])
    schema, column = setting.people.table.schema, column_of(setting)
    rows = np.concatenate([_rows(setting, one.seen) for one in heard])
    if not len(rows):
        return Inference(f"told {column.name} of nobody: no record was behind the updates", [])
    at = schema.slices[schema.names.index(column.name)]
    truth, options = setting.people.inputs[rows][:, at].double(), _options(column).double()
    tolerance = setting.scenario.judge.tolerance
    guess = _guess(setting, rows, column, at)
    told = torch.from_numpy(guess.values.copy())
    start = 0
    for one in heard:
        count = len(_rows(setting, one.seen))
        if isinstance(one.answer, Answer) and len(one.answer.scores):
            told[start : start + count] = options[one.answer.scores.argmax(1)]
        start += count
    values = right(told.numpy(), truth.numpy(), tolerance)
    guessed = right(guess.values, truth.numpy(), tolerance)
    counted = tally([(one.seen.clients, setting.people.person[_rows(setting, one.seen)]) for one in heard])
    measures = [_share(f"right value of {column.name}", (values, guessed), guess, counted)]
    if isinstance(column, Categorical) and column.width > 1:
        even = _guess(setting, rows, column, at, evenly=True)
        sides = values, right(even.values, truth.numpy(), tolerance)
        measures.append(_evenly(column, truth.argmax(1).numpy(), sides, even, counted))
    best = measures[0]
    share = f"{round((best.value or 0.0) * best.count)} of {best.count}"
    says = (
        f"told {column.name} of {share} people whose other fields it knew "
        f"({percent(best.value)}, guess {percent(best.prior)})"
    )
    return Inference(says, measures, exhibits=[_exhibit(setting, column, rows, truth, told, values)])


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


def _guess(setting: Setting, rows: NDArray[np.int64], column: Column, at: slice, evenly: bool = False) -> Imputation:
    """The strongest guess of the column of these people, chosen without looking at it."""
    inputs, labels = setting.people.inputs.double().numpy(), setting.people.labels.double().numpy()[:, None]
    rest = np.concatenate([np.delete(inputs, np.arange(at.start, at.stop), 1), labels], 1)
    granted, _ = held_out(setting.scenario, setting.people)
    known = Known(rest[granted], inputs[granted, at]) if len(granted) else None
    rng = stream(setting.scenario.seed, "imputation")
    return imputed(column, rest[rows], known, setting.scenario.judge.tolerance, rng, evenly)


def _share(name: str, sides: tuple[NDArray[np.bool_], NDArray[np.bool_]], guess: Imputation, counted: Tally) -> Measure:
    """Share of people whose value is right, by the answers and the guess; people asked about twice count once."""
    told, guessed = (counted.mean(side.astype(float)) for side in sides)
    return Measure(
        name=name,
        value=float(told.mean()),
        count=counted.people,
        ci95=share_interval(told, counted.clusters),
        prior=float(guessed.mean()),
        guess=guess.name,
    )


def _evenly(
    column: Categorical,
    truth: NDArray[np.int64],
    sides: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    guess: Imputation,
    counted: Tally,
) -> Measure:
    """Mean accuracy, of the answers and of the guess, over the values that occur: rare ones count as much."""
    told, guessed = (counted.mean(side.astype(float)) for side in sides)
    kinds = np.rint(counted.mean(truth.astype(float))).astype(int)
    weights = 1 / np.bincount(kinds, minlength=column.width)[kinds]
    return Measure(
        name=f"the same, each value of {column.name} counting alike",
        value=float(np.average(told, weights=weights)),
        count=counted.people,
        ci95=share_interval(told, counted.clusters, weights),
        prior=float(np.average(guessed, weights=weights)),
        guess=guess.name,
    )


def _exhibit(
    setting: Setting,
    column: Column,
    rows: NDArray[np.int64],
    truth: torch.Tensor,
    told: torch.Tensor,
    hit: NDArray[np.bool_],
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
        right=[bool(hit[i]) for i in shown],
    )
