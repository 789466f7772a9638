"""Draws of a table's rows, every column for itself, quick for small batches too."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedinv.task.columns import Categorical, Continuous

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Marginals:
    """Distributions of a table's columns, each by itself: categories by frequencies, numbers by clipped normal ones.

    Compared by identity, as a schema keeps its own, and two schemas are compared by their columns.
    """

    starts: tuple[int, ...]
    """First input of each column."""
    below: tuple[Floats | None, ...]
    """Cumulative frequencies of each column's categories but the last; None for a number."""
    numbers: NDArray[np.int64]
    """Inputs of the k numbers."""
    normal: Floats
    """Mean, standard deviation, least and greatest value of each number (4, k, 1)."""
    width: int
    """Number of inputs of a record."""

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw records, encoded (count, width)."""
        made = np.zeros((count, self.width), np.float32)
        drawn = [rng.standard_normal(count) if below is None else rng.random(count) for below in self.below]
        ones = [
            start + below.searchsorted(shares, "right")
            for start, below, shares in zip(self.starts, self.below, drawn, strict=True)
            if below is not None
        ]
        if ones:
            made[np.arange(count), np.stack(ones)] = 1
        if len(self.numbers):
            mean, std, low, high = self.normal
            apart = np.stack([one for one, below in zip(drawn, self.below, strict=True) if below is None])
            made[:, self.numbers] = np.minimum(np.maximum(mean + std * apart, low), high).T
        return made


def marginals(
    columns: Sequence[Categorical | Continuous], *, power: float = 1.0, spread: float | None = None
) -> Marginals:
    """The published distributions of these columns, sharpened where that is asked for.

    Frequencies are raised to `power`. A number has its published mean and standard deviation, or lies around its
    densest region with the standard deviation `spread`, in published ones.
    """
    widths = [column.width for column in columns]
    starts = (np.cumsum(widths) - widths).astype(int).tolist()
    normal = [
        (column.guess[0] if spread is not None else 0.0, 1.0 if spread is None else spread, *column.limits)
        for column in columns
        if isinstance(column, Continuous)
    ]
    return Marginals(
        starts=tuple(starts),
        below=tuple(_below(column, power) for column in columns),
        numbers=np.array([at for at, one in zip(starts, columns, strict=True) if isinstance(one, Continuous)], int),
        normal=np.array(normal, float).reshape(-1, 4).T[..., None],
        width=sum(widths),
    )


def _below(column: Categorical | Continuous, power: float) -> Floats | None:
    if isinstance(column, Continuous):
        return None
    passed = np.cumsum(np.asarray(column.frequencies) ** power)
    return np.asarray(passed[:-1] / passed[-1])
