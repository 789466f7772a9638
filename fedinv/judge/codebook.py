"""Batches that share the most fields with batches of people in expectation: Lloyd's algorithm with matching.

A batch is judged by the matching that is best for it, so the best batch to claim unseen is not n times the best record:
some diversity pays. The search alternates between matching and re-centering, as k-means does (Lloyd 1982), where each
record of the batch gets exactly one person of every sampled batch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedinv.task.columns import PADDING, Categorical, Continuous
from fedinv.task.schema import Schema

Array = NDArray[np.float32]
"""Encoded records (n, width)."""
ROUNDS = 4
"""Number of times that a batch is matched and re-centered."""
SAMPLED = 3000
"""People that a round of the search looks at, as whole batches."""
BATCHES = (12, 60)
"""Smallest and largest number of batches in a round of the search."""


@dataclass(frozen=True)
class Layout:
    """How the inputs of a record are compared."""

    schema: Schema
    """Data dictionary of the records."""
    tolerance: float
    """Error in standard deviations up to which a number or a pixel counts as right."""

    @cached_property
    def categories(self) -> list[slice]:
        """Inputs of each categorical column."""
        pairs = zip(self.schema.columns, self.schema.slices, strict=True)
        return [at for column, at in pairs if isinstance(column, Categorical)]

    @cached_property
    def numbers(self) -> list[int]:
        """Input of each continuous column."""
        pairs = zip(self.schema.columns, self.schema.slices, strict=True)
        return [at.start for column, at in pairs if isinstance(column, Continuous)]

    @cached_property
    def _one_hot(self) -> NDArray[np.int64]:
        parts = [np.arange(at.start, at.stop) for at in self.categories]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def agreement(self, claimed: Array, true: Array) -> Array:
        """Right fields of each of k claimed records against each of n true ones, (..., k, n); a table's only."""
        found: Array = claimed[..., self._one_hot] @ true[..., self._one_hot].swapaxes(-1, -2)
        for at in self.numbers:
            found += np.abs(claimed[..., :, None, at] - true[..., None, :, at]) <= self.tolerance
        return found

    def matched(self, claimed: Array, true: Array) -> NDArray[np.int64]:
        """Position of the true record that each claimed one is matched with, (b, n), in b batches (b, n, width).

        The claimed records are one batch (n, width) for all of them, or one for each.
        """
        from scipy.optimize import linear_sum_assignment

        if self.schema.tokens is not None:
            words = claimed[..., :, None, :] == true[..., None, :, :]
            common = (words & (true != PADDING)[..., None, :, :]).sum(-1)
            return np.stack([linear_sum_assignment(one, maximize=True)[1] for one in common])
        if self.schema.image is not None:
            from scipy.spatial.distance import cdist

            pairs = zip(np.broadcast_to(claimed, true.shape), true, strict=True)
            return np.stack([linear_sum_assignment(cdist(ours, theirs, "sqeuclidean"))[1] for ours, theirs in pairs])
        common = self.agreement(claimed, true)
        return np.stack([linear_sum_assignment(one, maximize=True)[1] for one in common])

    def right(self, claimed: Array, true: Array) -> NDArray[np.bool_]:
        """Whether each field of claimed records is that of the true record in the same row, (..., n, fields).

        Of texts, padding behind the true one counts as right whatever is claimed there.
        """
        if self.schema.tokens is not None:
            return np.asarray((claimed == true) | (true == PADDING))
        if self.schema.image is not None:
            return np.asarray(np.abs(claimed - true) <= self.tolerance)
        kinds = [(claimed[..., at] * true[..., at]).sum(-1) > 0.5 for at in self.categories]
        near = [np.abs(claimed[..., at] - true[..., at]) <= self.tolerance for at in self.numbers]
        return np.stack([*kinds, *near], -1)

    def valid(self, records: Array) -> Array:
        """The records (..., width) as the judge reads them: clamped, rounded, one category each."""
        found = np.array(records, np.float32)
        if self.schema.tokens is not None:
            return self.schema.tokens.decode(found.astype(np.float64)).astype(np.float32)
        for column, at in zip(self.schema.columns, self.schema.slices, strict=True):
            if isinstance(column, Categorical):
                found[..., at] = np.eye(column.width, dtype=np.float32)[found[..., at].argmax(-1)]
            else:
                values = np.clip(found[..., at] * column.std + column.mean, column.low, column.high)
                values = np.round(values) if isinstance(column, Continuous) and column.integer else values
                found[..., at] = (values - column.mean) / column.std
        return found


def batches(people: Array, size: int, rng: np.random.Generator, sampled: int = SAMPLED) -> Array:
    """Draw batches of `size` people (b, size, width): `sampled` people altogether, within the numbers of BATCHES.

    People repeat within a batch only where there are fewer than `size`.
    """
    count = int(np.clip(sampled // size, *BATCHES))
    return people[np.stack([rng.choice(len(people), size, replace=len(people) < size) for _ in range(count)])]


def fitted(start: Array, people: Array, layout: Layout, rng: np.random.Generator) -> Array:
    """Change a batch (n, width) so that it agrees more with batches of people (m, width); the most useful rows first.

    Deterministic but for `rng`, which samples the batches.
    """
    batch, useful = start.copy(), np.zeros(len(start))
    for _ in range(ROUNDS):
        drawn = batches(people, len(start), rng)
        held = np.take_along_axis(drawn, layout.matched(batch, drawn)[..., None], axis=1)
        useful = layout.right(batch, held).mean(axis=(0, 2))
        batch = layout.valid(center(held, layout))
    return np.ascontiguousarray(batch[np.argsort(-useful, kind="stable")])


def center(held: Array, layout: Layout) -> Array:
    """The record that agrees most with each of n groups of m people, held (m, n, width): (n, width).

    The most frequent category or token, the middle of a number's densest region, the mean of a pixel.
    """
    if layout.schema.tokens is not None:
        return _most_frequent(held)
    found = held.mean(0)
    for at in layout.categories:
        found[:, at] = np.eye(at.stop - at.start, dtype=np.float32)[found[:, at].argmax(1)]
    for position in layout.numbers:
        found[:, position] = _densest(held[:, :, position], layout.tolerance)
    return np.asarray(found)


def _most_frequent(ids: Array) -> Array:
    """The most frequent of m ids at each place, ids (m, n, length): (n, length); of several, the smallest."""
    ordered = np.sort(ids, axis=0)
    held = (ordered[None] == ordered[:, None]).sum(1)
    return np.asarray(np.take_along_axis(ordered, held.argmax(0)[None], axis=0)[0])


def _densest(values: Array, radius: float) -> Array:
    """Middle of the interval of half-width `radius` that contains most of each column of values (m, n): (n,).

    As `task.columns.densest`, for many short columns at once.
    """
    ordered = np.sort(values, axis=0)
    held = (ordered[None] <= ordered[:, None] + 2 * radius).sum(1) - np.arange(len(ordered))[:, None]
    first = held.argmax(0)
    last = first + held.max(0) - 1
    column = np.arange(values.shape[1])
    return np.asarray((ordered[first, column] + ordered[last, column]) / 2)
