"""The schema of records that are known only as a network's inputs."""

import numpy as np
from torch import Tensor

from fedinv.task.columns import Categorical, Column, Continuous
from fedinv.task.schema import Schema

BEYOND = 0.5
"""Share of the known records' range by which other records' numbers may lie outside of it, on either side."""


def schema_of_inputs(inputs: Tensor) -> Schema:
    """The schema of records (n, d) as a network is fed them, n at least 2: numbers, and categories as one-hot groups.

    Adjacent inputs that are 0 or 1 in every record and of which each record has exactly one at 1 are the values of
    one category; an input of 0 and 1 alone is a number. Numbers are in the inputs' own unit, within the range of
    these records and BEYOND of it more. Columns are named by their first input. Raises ValueError where they are no
    such table, or not finite.
    """
    if inputs.ndim != 2 or len(inputs) < 2:
        raise ValueError(f"records of the shape {tuple(inputs.shape)}, give 2 or more as (records, inputs)")
    table = inputs.detach().double().cpu().numpy()
    if not np.isfinite(table).all():
        raise ValueError("inputs that are not finite")
    columns: list[Column] = []
    at = 0
    while at < table.shape[1]:
        group = _one_hot(table[:, at:])
        columns.append(_category(table[:, at : at + group], at) if group else _number(table[:, at], at))
        at += max(1, group)
    return Schema(columns=tuple(columns), label="label", classes=("0", "1"))


def _one_hot(table: np.ndarray) -> int:
    """Number of inputs, 2 or more, of the shortest one-hot group that begins the table; 0 where none does."""
    taken = np.zeros(len(table))
    for end in range(table.shape[1]):
        if not np.isin(table[:, end], (0, 1)).all():
            return 0
        taken += table[:, end]
        if (taken > 1).any():
            return 0
        if end and (taken == 1).all():
            # values that no record has may follow: they stay numbers of 0
            return end + 1
    return 0


def _category(group: np.ndarray, at: int) -> Categorical:
    return Categorical(
        name=f"input {at}",
        values=tuple(str(place) for place in range(group.shape[1])),
        frequencies=tuple(group.mean(0).tolist()),
    )


def _number(values: np.ndarray, at: int) -> Continuous:
    low, high = float(values.min()), float(values.max())
    return Continuous(
        name=f"input {at}",
        mean=0.0,
        std=1.0,
        low=low - BEYOND * (high - low),
        high=high + BEYOND * (high - low),
        mode=float(np.median(values)),
    )
