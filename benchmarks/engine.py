"""What the inline engine adds to the training itself: the same clients through Flower's messages and without."""

import tempfile
import time
from pathlib import Path

import torch

from fedinv import roles
from fedinv.data.population import population
from fedinv.defense import Job
from fedinv.engines import inline
from fedinv.models import build, load
from fedinv.sampling import local_batches
from fedinv.scenario import Scenario, read
from fedinv.streams import stream


def main() -> None:
    """Print CPU milliseconds a client and round, for a small and a large network: the best of five, taken in turns."""
    torch.set_num_threads(1)
    for hidden, clients in ((64, 200), (512, 50)):
        scenario = read(
            "hospital",
            [f"federation.clients={clients}", "data.records=5000", f"model.hidden=[{hidden}, {hidden}]", "attacks=[]"],
        )
        _bare(scenario)
        pairs = [(_bare(scenario), _whole(scenario)) for _ in range(5)]
        bare, whole = min(p[0] for p in pairs), min(p[1] for p in pairs)
        print(
            f"{clients} clients, MLP {hidden}-{hidden}: training {bare:.2f} ms a client and round, "
            f"with Flower's messages {whole:.2f}, so {whole - bare:.2f} ms added"
        )


def _bare(scenario: Scenario) -> float:
    people = population(scenario.data, scenario.seed, scenario.federation.clients, scenario.training.records_per_client)
    schema, training = people.table.schema, scenario.training.settings
    plain_sgd = roles.load("clients", "training").plain_sgd
    start = build(scenario.model, schema.width, len(schema.classes), scenario.seed).state_dict()
    begun = time.process_time()
    for round_ in range(1, scenario.federation.rounds + 1):
        total = {name: torch.zeros_like(weight) for name, weight in start.items()}
        for client, share in enumerate(people.shares):
            weights = {name: weight.clone() for name, weight in start.items()}
            network = load(scenario.model, schema.width, len(schema.classes), weights)
            batches = local_batches(training, len(share), "shuffle", scenario.seed, client, round_)
            rng = stream(scenario.seed, "training", client, round_)
            job = Job(network, people.inputs[share], people.labels[share], batches, training, rng, {})
            for name, change in plain_sgd(job).items():
                total[name] += change / len(people.shares)
        start = {name: weight + total[name] for name, weight in start.items()}
    return _each(begun, scenario)


def _whole(scenario: Scenario) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        inline.train(scenario, Path(folder))
        return _each(begun, scenario)


def _each(begun: float, scenario: Scenario) -> float:
    replies = scenario.federation.clients * scenario.federation.rounds
    return (time.process_time() - begun) / replies * 1000
