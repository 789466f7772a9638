"""A statistic of a client's people, the share with a condition: how far off is it told?"""

from collections.abc import Sequence

import numpy as np
import torch

from fedinv.attack import Answer, Observation, Question
from fedinv.judge.questions import Heard, Inference, Setting, column_of
from fedinv.judge.truth import true_rows
from fedinv.results.intervals import bootstrap_mean
from fedinv.results.run import Exhibit, Measure
from fedinv.task.columns import Categorical, Column

SHOWN = 8


def ask(setting: Setting, seen: Observation) -> Question | None:
    """The column and the value whose share is asked for."""
    if setting.people.table.schema.image is not None:
        return None
    column = column_of(setting)
    return Question(column=column.name, options=_condition(setting, column)[None])


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Inference:
    """Mean absolute error of the share over observations, beside that of the share in the population."""
    schema = setting.people.table.schema
    if schema.image is not None:
        return Inference("told no share: the records are images", [])
    column = column_of(setting)
    condition, at = _condition(setting, column), schema.slices[schema.names.index(column.name)]
    values = setting.people.inputs[:, at]
    has = (values[:, 0] > condition[0] if len(condition) == 1 else (values * condition).sum(1) > 0.5).double().numpy()
    shares, rows = float(has.mean()), []
    off, guessed = [], []
    for one in heard:
        truth = float(has[true_rows(setting.scenario, setting.people, one.seen.clients, one.seen.last.round)].mean())
        answered = isinstance(one.answer, Answer) and len(one.answer.scores) > 0
        told = float(one.answer.scores[0, 0]) if isinstance(one.answer, Answer) and answered else shares
        off.append(abs(told - truth))
        guessed.append(abs(shares - truth))
        rows.append([str(one.seen.clients[0]), str(one.seen.last.round), f"{truth:.1%}", f"{told:.1%}"])
    what = (
        f"{column.name} above {column.mean:.4g}"
        if not isinstance(column, Categorical)
        else f"{column.name} {column.values[int(condition.argmax())]}"
    )
    measure = Measure(
        name=f"error of the share with {what}",
        value=float(np.mean(off)),
        count=len(off),
        ci95=bootstrap_mean(np.array(off), np.ones(len(off)), rng),
        prior=float(np.mean(guessed)),
        lower_leaks=True,
    )
    says = (
        f"told the share of people with {what} to {100 * measure.value:.1f} points on average at {measure.count} "
        f"clients (guess {100 * measure.prior:.1f})"
    )
    shown = Exhibit(
        title=f"Share of a client's people with {what}; {shares:.1%} of all",
        columns=["client", "round", "true", "told"],
        rows=rows[:SHOWN],
        right=[bool(o < g) for o, g in zip(off, guessed, strict=True)][:SHOWN],
    )
    return Inference(says, [measure], exhibits=[shown])


def _condition(setting: Setting, column: Column) -> torch.Tensor:
    """(width,): the value one-hot, or the population's mean."""
    if not isinstance(column, Categorical):
        return torch.zeros(1)
    wanted = getattr(setting.attack, "value", None)
    if wanted is not None and wanted not in column.values:
        from fedinv.errors import RequestError, nearest

        raise RequestError(f"attacks.value: {column.name} is never {wanted!r}{nearest(wanted, column.values)}")
    order = np.argsort(-np.array(column.frequencies), kind="stable")
    at = column.values.index(wanted) if wanted is not None else int(order[min(1, len(order) - 1)])
    return torch.eye(column.width)[at]
