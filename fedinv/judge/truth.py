"""The truth behind an observation, derived from the scenario and never from a message."""

import numpy as np
from numpy.typing import NDArray

from fedinv.data.population import Population, population
from fedinv.sampling import local_batches, used_records
from fedinv.scenario import Scenario


def everyone(scenario: Scenario) -> Population:
    """The scenario's people and who holds whose record."""
    return population(scenario.data, scenario.seed, scenario.federation.clients, scenario.training.records_per_client)


def true_rows(scenario: Scenario, people: Population, clients: tuple[int, ...], round_: int) -> NDArray[np.int64]:
    """Rows of the population that these clients' updates of a round were computed from."""
    used = []
    for client in clients:
        share = people.shares[client]
        batches = local_batches(
            scenario.training.settings, len(share), scenario.sampling, scenario.seed, client, round_
        )
        used.append(share[used_records(batches)])
    return np.concatenate(used)
