"""Clients' updates as an attacker would see them, computed without a federation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedinv import roles
from fedinv.attack import Attack, Claim, Exchange, Observation
from fedinv.data.batches import local_batches, used_records
from fedinv.data.population import Population
from fedinv.defense import Sending
from fedinv.federation.streams import stream
from fedinv.federation.training import Job
from fedinv.judge.matching import Match, match
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import read
from fedinv.scenario.scenario import Scenario
from fedinv.task.models import build, state


@dataclass(frozen=True)
class Victim:
    """One client's first update, as the scenario's defenses sent it, and the truth behind it."""

    scenario: Scenario
    people: Population
    seen: Observation
    rows: NDArray[np.int64]

    def attacked(self, attack: Attack, *, adaptive: bool = False) -> Claim:
        """The claim of an attack that knows everything; of the defenses only if it is `adaptive`."""
        held = len(self.people.shares[self.seen.clients[0]])
        knows = self.scenario.knowledge(self.people.table.schema, adaptive=adaptive, records=held)
        return attack.run(self.seen, knows, stream(self.scenario.seed, "attack"), lambda _: None)

    def judged(self, claim: Claim) -> Match:
        """A claim judged against the true records."""
        table = self.people.table
        return match(claim.records, table.take(self.rows).columns, table.schema, self.scenario.judge.tolerance)


def victim(name: str, settings: Sequence[str], client: int = 0) -> Victim:
    """One client of a shipped scenario, trained for one round from newly initialized weights.

    Of the scenario's defenses only those are in force that do nothing but change the update.
    """
    scenario = read(name, settings)
    people = population_of(scenario)
    schema, training, share = people.table.schema, scenario.training.settings, people.shares[client]
    network = build(scenario.model.fitted(schema), schema.shape, schema.outputs, scenario.seed)
    sent = {key: weight.clone() for key, weight in state(network).items()}
    batches = local_batches(training, len(share), "shuffle", scenario.seed, client, 1)
    rng = stream(scenario.seed, "training", client, 1)
    job = Job(network, people.inputs[share], people.labels[share], batches, training, rng)
    received = roles.load("clients", "training.plain_training").plain_training(job)
    rows = share[used_records(batches)]
    for position, defense in enumerate(scenario.defenses):
        draws = stream(scenario.seed, "defense", client, 1, position)
        taken = scenario.participation(len(share))
        cohort = tuple(range(scenario.federation.clients))
        sending = Sending(client, 1, cohort, len(rows), scenario.seed, draws, taken=taken)
        received = {key: tensor.float() for key, tensor in defense.protect(received, sending).items()}
    return Victim(scenario, people, Observation((client,), (Exchange(1, sent, received, len(rows)),)), rows)
