"""Property inference: how large is the error of the inferred share of a client's people with a condition?"""

from collections.abc import Sequence

import numpy as np
import torch

from fedinv.attack import Answer, Observation, Question
from fedinv.judge.questions import Heard, Inference, Setting, column_of
from fedinv.judge.truth import true_rows
from fedinv.results.intervals import mean_interval
from fedinv.results.run import Exhibit, Measure
from fedinv.task.columns import Categorical, Column

SHOWN = 8
"""Number of observations in the table of examples."""


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Give the column and the encoded value whose share is asked for; None for images and texts."""
    if not setting.people.table.schema.table:
        return None
    column = column_of(setting)
    return Question(column=column.name, options=_condition(setting, column)[None])


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Inference:
    """Measure the mean absolute error of the share; the prior is the error of the share in the whole population."""
    schema = setting.people.table.schema
    if not schema.table:
        return Inference("told no share: the records are no rows of a table", [])
    column = column_of(setting)
    condition, at = _condition(setting, column), schema.slices[schema.names.index(column.name)]
    values = setting.people.inputs[:, at]
    has = (values[:, 0] > condition[0] if len(condition) == 1 else (values * condition).sum(1) > 0.5).double().numpy()
    shares, rows = float(has.mean()), []
    off, guessed = [], []
    for one in heard:
        used = has[true_rows(setting.scenario, setting.people, one.seen.clients, one.seen.last.round)]
        if not len(used):  # a Poisson-sampled batch may be empty, and nobody has a share of nothing
            continue
        truth = float(used.mean())
        answered = isinstance(one.answer, Answer) and len(one.answer.scores) > 0
        told = float(one.answer.scores[0, 0]) if isinstance(one.answer, Answer) and answered else shares
        off.append(abs(told - truth))
        guessed.append(abs(shares - truth))
        rows.append([str(one.seen.clients[0]), str(one.seen.last.round), f"{truth:.1%}", f"{told:.1%}"])
    if not off:
        return Inference("told no share: no record was behind the updates", [])
    what = (
        f"{column.name} above {column.mean:.4g}"
        if not isinstance(column, Categorical)
        else f"{column.name} {column.values[int(condition.argmax())]}"
    )
    measure = Measure(
        name=f"error of the share with {what}",
        value=float(np.mean(off)),
        count=len(off),
        ci95=mean_interval(np.array(off), np.array([one.seen.clients[0] for one in heard])),
        prior=float(np.mean(guessed)),
        lower_leaks=True,
    )
    says = (
        f"told the share of people with {what} to {100 * float(np.mean(off)):.1f} points on average at {measure.count} "
        f"clients (guess {100 * float(np.mean(guessed)):.1f})"
    )
    shown = Exhibit(
        title=f"Share of a client's people with {what}; {shares:.1%} of all",
        columns=["client", "round", "true", "told"],
        rows=rows[:SHOWN],
        right=[bool(o < g) for o, g in zip(off, guessed, strict=True)][:SHOWN],
    )
    return Inference(says, [measure], exhibits=[shown])


def _condition(setting: Setting, column: Column) -> torch.Tensor:
    """Condition as inputs of the column (width,): a category one-hot, or 0 for a number above its mean."""
    if not isinstance(column, Categorical):
        return torch.zeros(1)
    wanted = getattr(setting.attack, "value", None)
    if wanted is not None and wanted not in column.values:
        from fedinv.errors import RequestError, nearest

        raise RequestError(f"attacks.value: {column.name} is never {wanted!r}{nearest(wanted, column.values)}")
    order = np.argsort(-np.array(column.frequencies), kind="stable")
    at = column.values.index(wanted) if wanted is not None else int(order[min(1, len(order) - 1)])
    return torch.eye(column.width)[at]
