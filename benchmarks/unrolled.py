"""Gain of gradient matching by simulating local training and joining rounds, by local training."""

from dataclasses import replace

import torch

from benchmarks.attacking import attacked, build
from benchmarks.victims import Victim, victim
from fedinv import roles
from fedinv.attack import Exchange, Observation
from fedinv.data.batches import local_batches
from fedinv.federation.streams import stream
from fedinv.federation.training import Job
from fedinv.task.models import load

SEEDS = range(101, 111)
"""Seeds of the federations, none of which the attack was tuned on."""
LOCAL = ((1, 8), (5, 8), (10, 16), (10, 8))
"""Epochs and batch size of local training."""
RECORDS = 16
PLAIN = {"simulate": 0}
WAYS: dict[str, tuple[int, dict[str, object]]] = {
    "halfway": (1, PLAIN),
    "halfway, more work": (1, {**PLAIN, "work": 135.0, "iterations": 900}),
    "simulated": (1, {}),
    "second round alone": (2, {"join": False}),
    "two rounds joined": (2, {"join": True}),
}
"""Number of watched rounds and settings of the attack by name. "halfway, more work" has three times the work of the
default search, as much as the default search and a simulation may take together."""


def main() -> None:
    """Print results on the hospital at learning rate 0.05, MLP 512-512, by epochs and batch size."""
    torch.set_num_threads(1)
    for epochs, size in LOCAL:
        local = [
            f"training.records_per_client={RECORDS}",
            f"training.epochs={epochs}",
            f"training.batch_size={size}",
        ]
        _compare(f"{RECORDS} x {epochs}, batch {size}", local)


def _compare(name: str, local: list[str]) -> None:
    for way, (rounds, keys) in WAYS.items():
        targets = (watched(victim("hospital", [*local, f"seed={seed}"]), rounds) for seed in SEEDS)
        print(attacked(build("gradient-matching", **keys), targets).line(f"{name}, {way}"), flush=True)


def watched(one: Victim, rounds: int) -> Victim:
    """A victim watched for `rounds` rounds; each next round's model is the mean over all clients' models."""
    seen = one.seen
    for round_ in range(2, rounds + 1):
        before = seen.last
        everyone = [received(one, before, client) for client in range(len(one.people.shares))]
        sent = {key: weight + torch.stack([u[key] for u in everyone]).mean(0) for key, weight in before.sent.items()}
        now = Exchange(round_, sent, {}, before.records)
        seen = Observation(seen.clients, (*seen.exchanges, replace(now, received=received(one, now, seen.clients[0]))))
    return replace(one, seen=seen)


def received(one: Victim, exchange: Exchange, client: int) -> dict[str, torch.Tensor]:
    """The update that a client sends for the model of this exchange."""
    scenario, schema, share = one.scenario, one.people.table.schema, one.people.shares[client]
    training = scenario.training.settings
    weights = {key: weight.clone() for key, weight in exchange.sent.items()}
    network = load(scenario.model.fitted(schema), schema.shape, schema.outputs, weights)
    batches = local_batches(training, len(share), "shuffle", scenario.seed, client, exchange.round)
    rng = stream(scenario.seed, "training", client, exchange.round)
    job = Job(network, one.people.inputs[share], one.people.labels[share], batches, training, rng)
    update: dict[str, torch.Tensor] = roles.load("clients", "training.plain_training").plain_training(job)
    return update
