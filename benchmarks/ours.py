"""fedinv's side of the simulation benchmark: one workload a process, named on the command line.

`python -m benchmarks.ours messages --clients 1000 --rounds 6` prints one JSON line, as the peers' drivers do.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from flwr.app import ArrayRecord

from benchmarks.peers import workload
from fedinv import roles
from fedinv.engines import inline
from fedinv.federation import wire
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import loads
from fedinv.scenario.scenario import Scenario
from fedinv.task.models import build, state

DP = '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 1.0\nclip = 1.0\n'
OPTIMIZERS = {
    "sgd": "lr = 0.05\n",
    "momentum": "lr = 0.05\nmomentum = 0.9\n",
    "adam": 'lr = 0.001\noptimizer = "adam"\n',
    "adamw": 'lr = 0.001\noptimizer = "adamw"\n',
    "rmsprop": 'lr = 0.001\noptimizer = "rmsprop"\n',
    "fedprox": "lr = 0.05\nproximal = 0.1\n",
}
"""Keys of [training] of each optimizer that is measured."""
SPARE = 100
"""Held-out records that a table has beyond those of the clients."""


def scenario(folder: Path, clients: int, rounds: int, source: str, extra: str = "") -> Scenario:
    """The workload as a scenario: its records as a table, or drawn one client at a time."""
    data = 'source = "hospital"\nrecords = 2000\npartition = { kind = "drawn", each = 64 }\n'
    if source == "table":
        rows = clients * workload.RECORDS + SPARE
        inputs, labels = workload.data(-(-rows // workload.RECORDS))
        path = folder / "records.csv"
        with path.open("w") as file:
            file.write(",".join([*(f"x{i}" for i in range(workload.WIDTH)), "label"]) + "\n")
            everybody = zip(inputs.flatten(0, 1)[:rows].tolist(), labels.flatten()[:rows].tolist(), strict=True)
            for values, label in everybody:
                file.write(",".join(f"{value:.5f}" for value in values) + (",yes\n" if label else ",no\n"))
        data = f'source = "csv"\npath = "{path}"\nlabel = "label"\nholdout = {SPARE / rows}\n'
    how = extra if extra.startswith("lr") else OPTIMIZERS["sgd"]
    return loads(
        f'name = "bench"\n[data]\n{data}[model]\nkind = "mlp"\nhidden = [64, 64]\n'
        f"[federation]\nclients = {clients}\nrounds = {rounds}\n{extra if extra.startswith('clients') else ''}"
        f'[training]\nalgorithm = "fedavg"\nbatch_size = 16\n{how}records_per_client = 64\ndevice = "cpu"\n'
        f"{extra if extra.startswith('[[') else ''}"
    )


def messages(folder: Path, clients: int, rounds: int, source: str = "table", extra: str = "") -> dict[str, float]:
    """Measure full rounds through Flower's messages: median clients per second of wall time after the first round."""
    declared = scenario(folder, clients, rounds, source, extra)
    population_of(declared)
    ends: dict[int, float] = {}
    began = time.perf_counter()
    inline.train(declared, folder / "run", lambda round_: ends.__setitem__(round_, time.perf_counter()))
    done, each = list(ends.values()), declared.federation.participants
    spans = [after - before for before, after in pairwise(done)]
    return {
        "first_round_s": done[0] - began,
        "clients_per_s": each / statistics.median(spans) if spans else each / (done[0] - began),
        "seconds": time.perf_counter() - began,
        "resident_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def cohort(folder: Path, clients: int, rounds: int, extra: str = "", device: str = "cpu") -> dict[str, float]:
    """Measure local training alone, from records and drawn batches to the updates, on one thread."""
    declared = scenario(folder, clients, 1, "table", extra)
    people, local, stacked = (
        population_of(declared),
        roles.load("clients", "training.job"),
        roles.load("clients", "training.stacked"),
    )
    network = local.network(declared, people, wire.unpack(_weights(declared)))
    where, spans = torch.device(device), []
    for round_ in range(rounds):
        jobs = local.stacked_jobs(declared, people, range(clients), round_, network)
        began = time.perf_counter()
        for chunk in stacked.chunks(jobs, where):
            stacked.train([jobs[i] for i in chunk], where)
        spans.append(time.perf_counter() - began)
    return {"first_round_s": spans[0], "clients_per_s": clients / statistics.median(spans[1:] or spans)}


def _weights(declared: Scenario) -> ArrayRecord:
    schema = population_of(declared).schema
    return wire.pack(state(build(declared.model, schema.shape, schema.outputs, declared.seed)))


WORKS: dict[str, Callable[[Path, int, int], dict[str, float]]] = {
    "messages": messages,
    "messages-dp": lambda folder, clients, rounds: messages(folder, clients, rounds, extra=DP),
    "drawn": lambda folder, clients, rounds: messages(folder, clients, rounds, "drawn"),
    "sampled": lambda folder, clients, rounds: messages(folder, clients, rounds, "drawn", "clients_per_round = 100\n"),
    "cohort": cohort,
    "cohort-dp": lambda folder, clients, rounds: cohort(folder, clients, rounds, DP),
    "cohort-gpu": lambda folder, clients, rounds: cohort(folder, clients, rounds, "", "cuda"),
    **{f"messages-{name}": partial(messages, extra=keys) for name, keys in OPTIMIZERS.items()},
    **{f"cohort-{name}": partial(cohort, extra=keys) for name, keys in OPTIMIZERS.items()},
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        print(json.dumps(WORKS[asked.work](Path(made), asked.clients, asked.rounds)))
