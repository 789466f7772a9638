"""Jobs of local training: a client's records, batches and defenses in a round, and the update."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor, nn

from fedinv.data.batches import local_batches
from fedinv.data.canaries import plant, planted_update
from fedinv.data.population import Population, population
from fedinv.defense import Defense
from fedinv.federation.streams import stream
from fedinv.federation.training import Augment, Batch, Job, LocalTraining, Update
from fedinv.scenario.scenario import Scenario
from fedinv.task.models import load
from fedinv.task.seeding import seeded

from .. import hooks
from .plain_training import plain_training

_NO_DRAWS = np.random.default_rng()
"""Placeholder generator for clients whose training draws no random number; building a real one per client costs more
than training it."""


def population_of(scenario: Scenario) -> Population:
    """The population that the scenario declares, of which a client reads no share but its own."""
    return population(scenario.data, scenario.seed, scenario.federation.clients, scenario.training.records_per_client)


def network(scenario: Scenario, people: Population, weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Build the network that the server sent, on the memory of `weights`."""
    schema = people.schema
    scenario.training.check_classes(schema.classes)
    return load(scenario.model.fitted(schema), schema.shape, schema.outputs, weights)


def train(
    scenario: Scenario,
    people: Population,
    client: int,
    round_: int,
    weights: Mapping[str, Tensor],
    undefended: LocalTraining = plain_training,
) -> Update:
    """Train one client with the scenario's defenses and return its update. Trains on the memory of `weights`.

    `undefended` is the local training that the defenses wrap. A client that is itself a canary sends its own direction
    whatever it would have learned, and so does not train.
    """
    if scenario.audit.plant == "clients":
        return planted_update(weights, scenario.seed, client)
    job = single_job(scenario, people, client, round_, network(scenario, people, weights))
    run = undefended
    for defense in scenario.defenses:
        if type(defense).wrap_training is not Defense.wrap_training:
            run = hooks.wrapped_training(defense, run)
    # a network of the user's own may draw from torch's generator, as dropout does
    with seeded(int(stream(scenario.hidden, "chance", client, round_).integers(2**63))):
        return run(job)


def single_job(scenario: Scenario, people: Population, client: int, round_: int, received: nn.Sequential) -> Job:
    """Make the job of a client that is trained on its own; `received` is its own network, which training changes."""
    settings, seed, hidden = scenario.local_training(round_), scenario.seed, scenario.hidden
    inputs, labels = people.records(client)
    batches = local_batches(settings, len(inputs), scenario.sampling, seed, client, round_)
    if scenario.audit.plant == "records":
        planted = plant(inputs, labels, received, seed, client, scenario.server.overflow)
        inputs, labels, batches = planted.inputs, planted.labels, planted.drawn(batches)
    for position, defense in enumerate(scenario.defenses):
        if type(defense).wrap_network is not Defense.wrap_network:
            received = hooks.wrapped_network(defense, received, stream(hidden, "network", position, client, round_))
    return Job(
        network=received,
        inputs=inputs,
        labels=labels,
        batches=batches,
        training=settings,
        rng=stream(hidden, "training", client, round_),
        augment=_augment(scenario, received, client, round_),
        taken=scenario.participation(len(inputs)),
    )


def stacked_jobs(
    scenario: Scenario, people: Population, clients: Sequence[int], round_: int, received: nn.Sequential
) -> list[Job]:
    """Make the jobs of clients that are trained in one stacked tensor; all share `received`, which is not modified."""
    settings, sampling, seed = scenario.local_training(round_), scenario.sampling, scenario.seed
    hidden = scenario.hidden
    masking = [(at, d) for at, d in enumerate(scenario.defenses) if type(d).masks is not Defense.masks]
    clipping = [defense for defense in scenario.defenses if type(defense).clipping is not Defense.clipping]
    participation = lru_cache(scenario.participation)
    jobs = []
    for client in clients:
        inputs, labels = people.records(client)
        taken = participation(len(inputs))
        jobs.append(
            Job(
                network=received,
                inputs=inputs,
                labels=labels,
                batches=local_batches(settings, len(inputs), sampling, seed, client, round_),
                training=settings,
                rng=stream(hidden, "training", client, round_) if clipping else _NO_DRAWS,
                taken=taken,
                masks=next((hooks.masks(d, stream(hidden, "network", at, client, round_)) for at, d in masking), None),
                clipping=next((hooks.clipping(defense, taken) for defense in clipping), None),
            )
        )
    return jobs


def _augment(scenario: Scenario, received: nn.Sequential, client: int, round_: int) -> Augment | None:
    """Compose the defenses' changes of a batch, in the order listed; None where no defense changes batches."""
    changing = [
        (defense, stream(scenario.hidden, "augment", position, client, round_))
        for position, defense in enumerate(scenario.defenses)
        if type(defense).augment is not Defense.augment
    ]
    if not changing:
        return None

    def augment(batch: Batch) -> Batch:
        for defense, rng in changing:
            batch = hooks.augmented(defense, batch, received, rng)
        return batch

    return augment
