"""The strongest guess of one column of people whose other columns are known: no update and no model is looked at.

It is the column's most likely value, or, where the attacker has auxiliary records, what a model fitted to those imputes
(Jayaraman and Evans 2022, Are attribute inference attacks just imputation?), whichever is right more often in a
cross-validation on the auxiliary records.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedinv.task.columns import Categorical, Column, Continuous, densest

Array = NDArray[np.float64]
Fit = Callable[[Array, Array, Array], Array]
"""Imputes from known rows (m, k) and their values (m, inputs) the values (n, inputs) of other rows (n, k)."""

CONSTANT = "the most likely value"
FOLDS = 5
"""Parts of the auxiliary records in the cross-validation; with fewer records than that nothing is imputed."""
PENALTIES = (0.01, 0.1)
"""Inverse strengths of regularization of a logistic regression, and those of a ridge regression over 1000."""


@dataclass(frozen=True)
class Imputation:
    """Guessed values of a column."""

    name: str
    """Name of the guess, as results print it."""
    values: Array
    """Guessed values, encoded (n, inputs)."""


@dataclass(frozen=True)
class Known:
    """Auxiliary records: what the guesser has of other people."""

    rest: Array
    """All inputs but the column's, and the label (m, k)."""
    values: Array
    """Inputs of the column (m, inputs)."""


def imputed(
    column: Column, rest: Array, known: Known | None, tolerance: float, rng: np.random.Generator, evenly: bool = False
) -> Imputation:
    """Guess the column of n people from their other inputs and label, `rest` (n, k).

    `evenly` asks for the guess that is best where each value of the column has the same weight, however rare it is.
    """
    constant = np.array(column.guess)

    def same(_: Array, __: Array, asked: Array) -> Array:
        return np.tile(constant, (len(asked), 1))

    if known is None or len(known.rest) < FOLDS:
        return Imputation(CONSTANT, same(rest, rest, rest))
    among = f"imputed from {len(known.rest)} auxiliary records"
    ways = {CONSTANT: same} | {f"{among}{key}": fit for key, fit in _ways(column, tolerance, evenly).items()}
    fold = rng.permutation(len(known.rest)) % FOLDS

    def worth(way: Fit) -> float:
        told = np.empty_like(known.values)
        for part in range(FOLDS):
            own, others = fold == part, fold != part
            told[own] = way(known.rest[others], known.values[others], known.rest[own])
        hit = right(told, known.values, tolerance)
        return _evenly(hit, known.values) if evenly else float(hit.mean())

    name = max(ways, key=lambda one: worth(ways[one]))
    return Imputation(name, ways[name](known.rest, known.values, rest))


def right(values: Array, truth: Array, tolerance: float) -> NDArray[np.bool_]:
    """Whether values (n, inputs) are the true ones: the same category, or a number within the tolerance; (n,)."""
    if truth.shape[1] == 1 and values.shape[1] == 1:
        return np.asarray(np.abs(values - truth)[:, 0] <= tolerance)
    return np.asarray(values.argmax(1) == truth.argmax(1))


def _evenly(hit: NDArray[np.bool_], truth: Array) -> float:
    """Mean over the values that occur of the share that is right."""
    kinds = truth.argmax(1)
    return float(np.mean([hit[kinds == kind].mean() for kind in np.unique(kinds)]))


def _ways(column: Column, tolerance: float, evenly: bool) -> Mapping[str, Fit]:
    """Models that impute the column, by how they are set."""
    if isinstance(column, Categorical):
        weight = "balanced" if evenly else None
        return {f" (multinomial, C = {penalty:g})": _logistic(penalty, weight) for penalty in PENALTIES}
    if isinstance(column, Continuous):
        return {f" (ridge {1000 * penalty:g})": _ridge(1000 * penalty, tolerance) for penalty in PENALTIES}
    return {}


def _logistic(penalty: float, weight: str | None) -> Fit:
    def fit(rest: Array, values: Array, asked: Array) -> Array:
        from sklearn.linear_model import LogisticRegression

        kinds = values.argmax(1)
        if len(np.unique(kinds)) < 2:
            return np.tile(values[:1], (len(asked), 1))
        model = LogisticRegression(C=penalty, max_iter=200, tol=1e-3, class_weight=weight).fit(rest, kinds)
        return np.asarray(np.eye(values.shape[1])[model.predict(asked)])

    return fit


def _ridge(penalty: float, tolerance: float) -> Fit:
    """Ridge regression, moved from the mean to the densest region of what it leaves over."""

    def fit(rest: Array, values: Array, asked: Array) -> Array:
        from sklearn.linear_model import Ridge

        model = Ridge(penalty).fit(rest, values[:, 0])
        middle = densest(values[:, 0] - model.predict(rest), tolerance)
        return np.asarray(model.predict(asked) + middle)[:, None]

    return fit
