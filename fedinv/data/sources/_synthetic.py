"""Functions for synthetic sources: identities, draws from a causal model, and the schema of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedinv.task.columns import fit_categorical, fit_continuous
from fedinv.task.schema import Schema

Floats = NDArray[np.float64]
Strings = NDArray[np.str_]

YEAR = 2024
"""Year at whose end the records were taken: birth years follow from ages."""


def identities(rng: np.random.Generator, age: Floats, female: NDArray[np.bool_]) -> dict[str, Strings]:
    """Make a name, birth date (ISO) and postcode for each person; `age` (n,) in whole years.

    Faker is slow, so that it fills pools of names, common ones more than once, from which numpy draws. A full name may
    occur twice, as among real people; together with birth date and postcode it hardly does.
    """
    from faker import Faker
    from faker.providers.person.en_US import Provider

    faker = Faker("en_US", providers=["faker.providers.person", "faker.providers.address"])
    faker.seed_instance(int(rng.integers(2**63)))

    def pool(of: Mapping[str, float], names: int) -> Strings:
        """Names (names,) that Faker draws at once, each as often as it is common."""
        return np.array(faker.random_elements(of, length=names, use_weighting=True))

    women, men = pool(Provider.first_names_female, 400), pool(Provider.first_names_male, 400)
    families = pool(Provider.last_names, 1000)
    places = np.array([faker.postcode() for _ in range(300)])
    count = len(age)
    first = np.where(female, rng.choice(women, count), rng.choice(men, count))
    january = (np.int64(YEAR) - age.astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[D]")
    return {
        "name": np.char.add(np.char.add(first, " "), rng.choice(families, count)),
        "birth_date": (january + rng.integers(0, 365, count)).astype(str),
        "postcode": rng.choice(places, count),
    }


def pick(rng: np.random.Generator, values: Sequence[str], scores: Mapping[str, Floats | float], count: int) -> Strings:
    """Draw one of `values` per row (n,), with probability proportional to exp(score); a score is (n,) or one number."""
    table = np.stack([np.broadcast_to(np.asarray(scores[value], np.float64), count) for value in values], axis=1)
    drawn: Strings = np.asarray(values)[np.argmax(table + rng.gumbel(size=table.shape), axis=1)]
    return drawn


def effect(values: Strings, effects: Mapping[str, float]) -> Floats:
    """Effect of each row's value (n,); zero for a value that is not listed."""
    total = np.zeros(len(values))
    for value, size in effects.items():
        total[values == value] = size
    return total


def measured(values: NDArray[Any], low: float, high: float | Floats, decimals: int = 0) -> Floats:
    """Values (n,) as a record holds them: clipped to the possible range, rounded to the instrument's decimals."""
    rounded: Floats = np.clip(np.asarray(values, np.float64), low, high)
    return rounded.round(decimals) + 0.0  # no negative zero


def chance(rng: np.random.Generator, log_odds: Floats) -> NDArray[np.int64]:
    """Draw 0 or 1 per row (n,) with these log-odds of 1."""
    return (rng.logistic(size=len(log_odds)) < log_odds).astype(np.int64)


def dictionary(
    columns: Mapping[str, NDArray[Any]],
    *,
    values: Mapping[str, Sequence[str]],
    units: Mapping[str, str],
    fractional: frozenset[str],
    sensitive: frozenset[str],
    label: str,
) -> Schema:
    """Compute the schema of a table; `values` lists categorical columns' values, `units` continuous columns' units."""
    return Schema(
        columns=tuple(
            fit_categorical(name, column, order=values[name], sensitive=name in sensitive)
            if name in values
            else fit_continuous(
                name, column, integer=name not in fractional, unit=units[name], sensitive=name in sensitive
            )
            for name, column in columns.items()
        ),
        label=label,
        classes=("no", "yes"),
    )
