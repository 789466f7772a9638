"""The true records behind an observation, derived from the scenario and never from a message."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedinv.attack import Sample
from fedinv.data.batches import local_batches, used_records
from fedinv.data.dataset import Dataset
from fedinv.data.population import Population, joined, population
from fedinv.errors import RequestError
from fedinv.federation.agreement import round_senders
from fedinv.federation.streams import stream
from fedinv.scenario.scenario import Scenario


@lru_cache(maxsize=2)
def population_of(scenario: Scenario) -> Population:
    """The scenario's population; of records drawn on demand, those of watched clients are in its table."""
    federation, seed, watch = scenario.federation, scenario.seed, scenario.attacker.watch
    people = population(scenario.data, seed, federation.clients, scenario.training.records_per_client)
    summed = any(defense.secure_aggregation for defense in scenario.defenses)
    watched = set[int]()
    for round_ in watch.rounds if people.draw is not None else ():
        senders = round_senders(federation, seed, round_)
        watched |= set(senders if summed else senders[: watch.clients])
    return joined(people, scenario.data, seed, sorted(watched))


def forget_files(data: Dataset) -> None:
    """Have a table that is read from files read anew, at the beginning of a command; others stay in memory."""
    if data.reads_files:
        population.cache_clear()
        population_of.cache_clear()


def true_rows(scenario: Scenario, people: Population, clients: tuple[int, ...], round_: int) -> NDArray[np.int64]:
    """Rows of the population from which these clients' updates of a round were computed."""
    used = []
    for client in clients:
        share = people.shares[client]
        batches = local_batches(
            scenario.training.settings, len(share), scenario.sampling, scenario.seed, client, round_
        )
        used.append(share[used_records(batches)])
    return np.concatenate(used)


def held_out(scenario: Scenario, people: Population) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the rows that no client holds into the attacker's auxiliary records and the others.

    Raises RequestError for as many auxiliary records as are held out, or more.
    """
    wanted = scenario.attacker.auxiliary
    if wanted >= len(people.holdout):
        raise RequestError(
            f"attacker.auxiliary: {wanted} records are promised, and only {len(people.holdout)} are held out: raise "
            "data.holdout or data.records"
        )
    order = stream(scenario.seed, "auxiliary").permutation(people.holdout)
    return order[:wanted], order[wanted:]


def auxiliary(scenario: Scenario, people: Population) -> Sample | None:
    """The attacker's auxiliary records, encoded; None where the scenario grants none."""
    rows, _ = held_out(scenario, people)
    return Sample(people.inputs[rows], people.labels[rows]) if len(rows) else None
