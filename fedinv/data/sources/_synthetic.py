"""What the synthetic sources share: who the people are, draws from a causal model, the data dictionary of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedinv.task.columns import fit_categorical, fit_continuous
from fedinv.task.schema import Schema

Floats = NDArray[np.float64]
Strings = NDArray[np.str_]

YEAR = 2024
"""The records are of 31 December of this year, so that a birth year gives an age."""


def identities(rng: np.random.Generator, age: Floats, female: NDArray[np.bool_]) -> dict[str, Strings]:
    """Name, birth date (ISO) and postcode of each person; `age` (n,) in whole years.

    Faker is slow, so it fills pools of names (common ones more than once) from which numpy draws. A full name may occur
    twice, as among real people; together with birth date and postcode it does not.
    """
    from faker import Faker

    faker = Faker("en_US", providers=["faker.providers.person", "faker.providers.address"])
    faker.seed_instance(int(rng.integers(2**63)))
    women = np.array([faker.first_name_female() for _ in range(400)])
    men = np.array([faker.first_name_male() for _ in range(400)])
    families = np.array([faker.last_name() for _ in range(1000)])
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
    """Draw one of `values` a row, (n,), with probability proportional to exp(score); each score is (n,) or a number."""
    table = np.stack([np.broadcast_to(np.asarray(scores[value], np.float64), count) for value in values], axis=1)
    drawn: Strings = np.asarray(values)[np.argmax(table + rng.gumbel(size=table.shape), axis=1)]
    return drawn


def effect(values: Strings, effects: Mapping[str, float]) -> Floats:
    """(n,) the effect of each row's value; zero for a value that is not listed."""
    total = np.zeros(len(values))
    for value, size in effects.items():
        total[values == value] = size
    return total


def measured(values: NDArray[Any], low: float, high: float | Floats, decimals: int = 0) -> Floats:
    """(n,) numbers as a record holds them: within a possible range, rounded to the instrument's resolution."""
    rounded: Floats = np.clip(np.asarray(values, np.float64), low, high)
    return rounded.round(decimals) + 0.0  # no negative zero


def chance(rng: np.random.Generator, log_odds: Floats) -> NDArray[np.int64]:
    """(n,) 0 or 1, drawn with these log-odds."""
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
    """Publish the schema of a table: `values` lists each categorical column's, `units` each continuous column's."""
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
