"""Records that row-space reads behind networks of tables, beside the guess: embeddings, codes, norms, Adam."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.attacking import build
from benchmarks.victims import Victim, victim
from fedinv import roles
from fedinv.attack import Exchange, Observation
from fedinv.data.batches import local_batches, used_records
from fedinv.judge.matching import match
from fedinv.results.intervals import clopper_pearson
from fedinv.task.models import build as network_of
from fedinv.task.models import state

TUNED = (1, 2)
"""Seeds on which settings were chosen."""
REPORTED = tuple(range(101, 111))
"""Seeds of the table, on none of which a setting was chosen."""
MODEL = ("model.kind=tabular", "model.hidden=[512,512]", "training.records_per_client=64", "training.lr=0.05")
SGD8 = (*MODEL, "training.algorithm=fedsgd", "training.batch_size=8")
SGD32 = (*MODEL, "training.algorithm=fedsgd", "training.batch_size=32")
AVG16 = (
    *MODEL,
    "training.algorithm=fedavg",
    "training.epochs=5",
    "training.batch_size=8",
    "training.records_per_client=16",
)
ADAM = ("training.optimizer=adam", "training.lr=0.001")
FLOWER = ("model.hidden=[128,64]", "model.encoding=ordinal", "model.logits=one")
"""Flower's fl-tabular example: 128 and 64 units, ordinal codes, one logit."""
LINES: dict[str, Sequence[str]] = {
    "embeddings, FedSGD 8": SGD8,
    "embeddings, FedSGD 32": SGD32,
    "embeddings, FedAvg 16 x 5 epochs by 8": AVG16,
    "layer norm, FedSGD 8": (*SGD8, "model.norm=layer"),
    "residual blocks, FedSGD 8": (*SGD8, "model.residual=true"),
    "GELU, FedSGD 8": (*SGD8, "model.activation=gelu"),
    "no bias, FedSGD 8": (*SGD8, "model.bias=false"),
    "dropout 0.2, FedSGD 8": (*SGD8, "model.dropout=0.2"),
    "batch norm, SGD, one step of 8": (*SGD8, "model.norm=batch"),
    "batch norm, SGD, FedAvg 16 x 5 epochs by 8": (*AVG16, "model.norm=batch"),
    "batch norm, Adam, one step of 8": (*SGD8, *ADAM, "model.norm=batch"),
    "fl-tabular's network, SGD, one step of 32": (*SGD32, *FLOWER),
    "fl-tabular's network, Adam, one step of 8": (*SGD8, *ADAM, *FLOWER),
    "fl-tabular's network, Adam, one step of 32": (*SGD32, *ADAM, *FLOWER),
    "fl-tabular's network, Adam, 64 records, one epoch by 32": (
        *SGD32,
        *ADAM,
        *FLOWER,
        "training.algorithm=fedavg",
        "training.epochs=1",
    ),
}
"""Scenario settings of each line."""
DEFENDED = (
    "embeddings, FedSGD 8",
    "layer norm, FedSGD 8",
    "dropout 0.2, FedSGD 8",
    "fl-tabular's network, Adam, one step of 32",
)
"""Lines that are also run behind dp-sgd with an epsilon of 8, attacked by somebody who knows of it."""


def main() -> None:
    """Hospital; the first client of each seed; one torch thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # dropout draws its masks from torch's generator
    print(f"settings chosen on seeds {TUNED[0]} and {TUNED[-1]}, table of seeds {REPORTED[0]} to {REPORTED[-1]}")
    for name, settings in LINES.items():
        print(_line(name, (victim("hospital", [*settings, f"seed={seed}"]) for seed in REPORTED)), flush=True)
    for name in DEFENDED:
        behind = (_behind_dp([*LINES[name], f"seed={seed}"]) for seed in REPORTED)
        print(_line(f"dp-sgd, epsilon 8: {name}", behind, adaptive=True), flush=True)


def _line(name: str, victims: Iterator[Victim], *, adaptive: bool = False) -> str:
    fields, guesses, recovered, exact, verified, seconds = [], [], [], [], [], []
    for one in victims:
        begun = time.process_time()
        claim = one.attacked(build("row-space"), adaptive=adaptive)
        seconds.append(time.process_time() - begun)
        table, n = one.people.table, len(one.rows)
        truth, tolerance = table.take(one.rows).columns, one.scenario.judge.tolerance
        guess = match(table.schema.guess(n), truth, table.schema, tolerance)
        # where nothing is claimed of a record the guess speaks, as in a run's verdict
        found = one.judged(claim) if len(claim.records) else guess
        claimed = len(claim.records)
        share = found.right.sum() / found.right.size if claimed else guess.right.mean()
        fields.append(share + (1 - claimed / n) * guess.right.mean() if claimed else share)
        guesses.append(guess.right.mean())
        recovered.append(found.recovered & (claimed > 0))
        exact.append(found.exact & (claimed > 0))
        verified.append(int(claim.verified.sum()))
    whole, every = np.concatenate(recovered), np.concatenate(exact)
    low, high = clopper_pearson(int(whole.sum()), len(whole))
    return (
        f"{name:56} fields {np.mean(fields):.3f} (guess {np.mean(guesses):.3f})  "
        f"every field right {int(whole.sum())} of {len(whole)} ({low:.0%} to {high:.0%}), "
        f"every digit {int(every.sum())}, verified {sum(verified)}  "
        f"CPU {np.mean(seconds):.1f} s (longest {max(seconds):.1f})"
    )


def _behind_dp(settings: Sequence[str]) -> Victim:
    """A victim whose whole training dp-sgd does, with an epsilon of 8."""
    plain = victim("hospital", settings)
    scenario, people = victim("hospital", [*settings, 'defenses=[{kind="dp-sgd",epsilon=8}]']).scenario, plain.people
    schema = people.schema
    sent = state(network_of(scenario.model.fitted(schema), schema.shape, schema.outputs, scenario.seed))
    train = roles.load("clients", "training.job").train
    received = train(scenario, people, 0, 1, {name: tensor.clone() for name, tensor in sent.items()})
    batches = local_batches(scenario.training.settings, len(people.shares[0]), scenario.sampling, scenario.seed, 0, 1)
    rows = people.shares[0][used_records(batches)]
    seen = Observation((0,), (Exchange(1, sent, received, len(rows)),))
    return replace(plain, scenario=scenario, seen=seen, rows=rows)
