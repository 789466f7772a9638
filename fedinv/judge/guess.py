"""The strongest guess of a batch's records without its update: the best of several, chosen without the truth.

All that a guesser knows is the data dictionary, how many records there are, and the attacker's auxiliary records where
a scenario grants some. Every guess is tried on simulated batches: of people drawn from the dictionary column by
column, or of auxiliary records that it was not made from. The truth plays no part in the choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedinv.judge.codebook import SAMPLED, Array, Layout, batches, center, fitted
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.marginals import marginals
from fedinv.task.schema import Schema

POWERS = (1.5, 3.0, 6.0)
"""Powers to which published frequencies are raised before they are drawn from: frequent values become more so."""
SPREADS = (0.25, 0.5)
"""Standard deviations around the densest region from which sharpened numbers are drawn."""
NEIGHBORS = (3, 10, 30)
"""Auxiliary records that are made into one, as their most frequent values."""
LARGEST = 128
"""Records of the largest batch that is fitted; a larger one repeats it."""
SIZES = 3
"""Sizes of batches for which guesses are made; a batch of another size uses those for the nearest one."""
TESTS = 4
"""One of so many auxiliary records is kept for choosing; the guesses to choose from are made of the others."""
SIMULATED = 4000
"""People drawn from the dictionary for fitting, and as many for choosing."""

CONSTANT = "every column's most frequent value"
DRAWN = "draws from the columns' frequencies"
SHARPENED = "draws from sharpened frequencies"
FITTED = "records fitted to the data dictionary"
MODES = "local modes of the auxiliary records"
LEARNED = "records fitted to the auxiliary records"


@dataclass(frozen=True)
class Guess:
    """A way to guess a batch's records without its update."""

    name: str
    """Name, as results print it."""
    make: Callable[[int, np.random.Generator], Tensor]
    """Guesses `count` encoded records: float32 (count, width)."""
    random: bool
    """True: every call draws anew, so that rates must be averaged; False: it is always the same."""


@dataclass(frozen=True)
class Guesses:
    """The strongest guesses by three measures: one each for a table, several for images.

    A dictionary of images tells nothing of what they show, so that simulated ones choose badly: whichever guess turns
    out to be best counts, which favors the guesser.
    """

    fields: tuple[Guess, ...]
    """Guesses with the most right fields."""
    records: tuple[Guess, ...]
    """Guesses with the most records right in every field; `fields` where none is expected to be."""
    images: tuple[Guess, ...]
    """Guesses with the largest peak signal-to-noise ratio; `fields` for a table."""


@dataclass(frozen=True)
class _Tried:
    """A guess of batches of one size, and how much of simulated batches it gets right."""

    guess: Guess
    """Guess of a batch of that size."""
    fields: float
    """Share of right fields."""
    records: float
    """Share of records with every field right."""


def strongest(
    schema: Schema, sizes: Sequence[int], tolerance: float, auxiliary: Tensor | None, rng: np.random.Generator
) -> Guesses:
    """Choose the strongest guesses for batches of these sizes.

    `auxiliary` are encoded records of the same population (m, width), None where the attacker has none. Takes about a
    second; deterministic but for `rng`.
    """
    layout, known = Layout(schema, tolerance), None if auxiliary is None else auxiliary.numpy()
    weights = _anchors(sizes)
    made = {size: _made(layout, size, known, rng) for size in weights}
    names = list(dict.fromkeys(name for tried in made.values() for name in tried))

    def at(size: int, name: str) -> _Tried:
        return made[size].get(name, made[size][CONSTANT])  # a batch of one has no diversity to choose

    def best(worth: Callable[[_Tried], float]) -> Guess:
        total = {name: sum(w * worth(at(size, name)) for size, w in weights.items()) for name in names}
        return of_name(max(names, key=total.__getitem__))

    def of_name(name: str) -> Guess:
        parts = {size: at(size, name).guess for size in made}
        if known is not None and name in (MODES, LEARNED):  # chosen without some of them, now made of all
            parts = {size: _of_auxiliary(layout, size, known, rng)[name] for size in made}
        return Guess(name, _nearest_size(parts), any(one.random for one in parts.values()))

    if schema.image is not None:
        every = tuple(of_name(name) for name in names)
        return Guesses(every, every, every)
    by_field = (best(lambda one: one.fields),)
    any_whole = any(one.records > 0 for tried in made.values() for one in tried.values())
    return Guesses(by_field, (best(lambda one: one.records),) if any_whole else by_field, by_field)


def simulated(schema: Schema, count: int, rng: np.random.Generator) -> Array:
    """Draw people from the data dictionary alone, every column for itself, encoded (count, width).

    A number has the two halves of a normal distribution that have its published mode, mean and standard deviation
    (Wallis 2014, The two-piece normal), within its published range.
    """
    if not schema.table:
        return np.asarray(schema.draw(count, rng).numpy())
    parts = []
    for column in schema.columns:
        if isinstance(column, Categorical):
            shares = np.asarray(column.frequencies) / sum(column.frequencies)
            parts.append(np.eye(column.width)[rng.choice(column.width, count, p=shares)])
        elif isinstance(column, Continuous):
            mode, skew = column.guess[0], float(np.clip(-column.guess[0] * np.sqrt(np.pi / 2), -1.5, 1.5))
            product = max(0.02, 1 - (1 - 2 / np.pi) * skew**2)
            left = (-skew + np.sqrt(skew**2 + 4 * product)) / 2
            right = left + skew
            above = rng.random(count) < right / (left + right)
            apart = np.abs(rng.standard_normal(count)) * np.where(above, right, -left)
            parts.append(np.clip(mode + apart, *column.limits)[:, None])
    return np.concatenate(parts, 1).astype(np.float32)


def _anchors(sizes: Sequence[int]) -> dict[int, float]:
    """Up to SIZES sizes of batches that stand for all, each with the share of records that are nearest to it."""
    listed = np.minimum(np.sort([size for size in sizes if size > 0] or [1]), LARGEST)
    anchors = sorted({int(np.quantile(listed, q, method="nearest")) for q in np.linspace(0, 1, SIZES)})
    weights = dict.fromkeys(anchors, 0.0)
    for size in listed.tolist():
        weights[_nearest(anchors, size)] += size / listed.sum()
    return weights


def _nearest(anchors: Sequence[int], size: int) -> int:
    return min(anchors, key=lambda one: abs(np.log(one / min(size, LARGEST))))


def _nearest_size(parts: dict[int, Guess]) -> Callable[[int, np.random.Generator], Tensor]:
    """Guesses a batch of any size by the guess for the nearest one."""

    def make(count: int, rng: np.random.Generator) -> Tensor:
        return parts[_nearest(list(parts), max(1, count))].make(count, rng)

    return make


def _made(layout: Layout, size: int, known: Array | None, rng: np.random.Generator) -> dict[str, _Tried]:
    """Every guess for batches of `size` by name, tried on batches that it was not made from."""
    dictionary, most = layout.valid(simulated(layout.schema, SIMULATED, rng)), None
    tests = layout.valid(simulated(layout.schema, SIMULATED, rng))
    if known is not None and len(known) > 1:
        order = rng.permutation(len(known))
        kept = -(-len(known) // TESTS)
        most, tests = known[order[kept:]], known[order[:kept]]
    drawn = batches(tests, size, rng)
    guesses = _of_dictionary(layout, size, dictionary, rng)
    if most is not None:
        guesses |= _of_auxiliary(layout, size, most, rng)
    return {name: _tried(guess, drawn, layout, rng) for name, guess in guesses.items()}


def _of_dictionary(layout: Layout, size: int, people: Array, rng: np.random.Generator) -> dict[str, Guess]:
    """Guesses that know the data dictionary; `people` are drawn from it."""
    schema = layout.schema
    found = {
        CONSTANT: Guess(CONSTANT, lambda count, _: schema.guess(count), random=False),
        DRAWN: Guess(DRAWN, schema.draw, random=True),
    }
    if size == 1 and schema.image is None:
        return found  # of one record nothing beats the most likely value of every column
    start = people[:size]
    if schema.table:
        drawn = batches(people, size, rng, SAMPLED // 4)
        sharper = [Guess(SHARPENED, _sharpened(schema, p, s), random=True) for p in POWERS for s in SPREADS]
        found[SHARPENED] = max(sharper, key=lambda one: _tried(one, drawn, layout, rng).fields)
        start = layout.valid(found[SHARPENED].make(size, rng).numpy())
    found[FITTED] = Guess(FITTED, _repeated(fitted(start, people, layout, rng)), random=False)
    return found


def _of_auxiliary(layout: Layout, size: int, known: Array, rng: np.random.Generator) -> dict[str, Guess]:
    """Guesses that know auxiliary records (m, width)."""
    local = [Guess(MODES, _modes(known, neighbors, layout), random=True) for neighbors in NEIGHBORS]
    drawn = batches(known, size, rng, SAMPLED // 4)
    best = max(local, key=lambda one: _tried(one, drawn, layout, rng).fields)
    start = layout.valid(best.make(size, rng).numpy())
    return {MODES: best, LEARNED: Guess(LEARNED, _repeated(fitted(start, known, layout, rng)), random=False)}


def _tried(guess: Guess, drawn: Array, layout: Layout, rng: np.random.Generator) -> _Tried:
    """What a guess is worth on b batches of people (b, n, width)."""
    made = [guess.make(drawn.shape[1], rng).numpy() for _ in drawn] if guess.random else guess.make(drawn.shape[1], rng)
    claimed = layout.valid(np.asarray(made))
    people = np.take_along_axis(drawn, layout.matched(claimed, drawn)[..., None], axis=1)
    right = layout.right(claimed, people)
    return _Tried(guess, float(right.mean()), float(right.all(-1).mean()))


def _sharpened(schema: Schema, power: float, spread: float) -> Callable[[int, np.random.Generator], Tensor]:
    """Draws categories from frequencies to a power, and numbers around their densest region."""
    columns = [one for one in schema.columns if isinstance(one, Categorical | Continuous)]
    sharpened = marginals(columns, power=power, spread=spread)
    return lambda count, rng: torch.from_numpy(sharpened.draw(count, rng))


def _modes(known: Array, neighbors: int, layout: Layout) -> Callable[[int, np.random.Generator], Tensor]:
    """Draws auxiliary records, and gives for each what is most frequent among those nearest to it."""
    from scipy.spatial.distance import cdist

    def make(count: int, rng: np.random.Generator) -> Tensor:
        picked = known[rng.choice(len(known), count, replace=len(known) < count)]
        if layout.schema.tokens is not None:
            apart = 0.5 * rng.random((count, len(known))) - (picked[:, None] == known[None]).sum(2)
        elif layout.schema.image is not None:
            apart = cdist(picked, known, "sqeuclidean")
        else:  # fields in common, ties in random order
            apart = 0.5 * rng.random((count, len(known))) - layout.agreement(picked, known)
        nearest = np.argsort(apart, axis=1)[:, :neighbors]
        return torch.from_numpy(center(known[nearest].transpose(1, 0, 2), layout))

    return make


def _repeated(batch: Array) -> Callable[[int, np.random.Generator], Tensor]:
    """Gives the first records of a batch, which is repeated where more are wanted."""

    def make(count: int, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(batch[np.arange(count) % len(batch)])

    return make
