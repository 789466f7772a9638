"""Share of fields and records that gradient matching rebuilds from an update of signs, and how long it takes."""

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.attacking import build
from benchmarks.victims import Victim, victim
from fedinv.judge.matching import match

TUNED = (7, 8)
"""Seeds on which the search's settings were chosen."""
REPORTED = tuple(range(101, 111))
"""Seeds of the table, on none of which a setting was chosen."""
CLIENTS = 4
"""Clients that are attacked per seed, those that the scenario's attacker watches."""
SETTINGS = {
    "FedSGD, 8 records, told nothing": (["training.algorithm=fedsgd", "training.batch_size=8"], False),
    "FedSGD, 8 records": (["training.algorithm=fedsgd", "training.batch_size=8"], True),
    "FedAvg, 16 records": (["training.records_per_client=16"], True),
    "FedSGD, 1 record": (["training.algorithm=fedsgd", "training.batch_size=1"], True),
    "FedSGD, 16 records": (["training.algorithm=fedsgd", "training.batch_size=16"], True),
    "FedSGD, 32 records": (["training.algorithm=fedsgd", "training.batch_size=32"], True),
}
"""The training, and whether the attacker knows of the defense."""
DEFENSE = 'defenses=[{kind="sign"}]'


def main() -> None:
    """Hospital, MLP 512-512, lr 0.05, `sign`; FedAvg is 5 local epochs of batch 8. One torch thread."""
    torch.set_num_threads(1)
    print(f"settings chosen on seeds {TUNED}, table of seeds {REPORTED[0]} to {REPORTED[-1]}, {CLIENTS} clients each")
    for name, (settings, adaptive) in SETTINGS.items():
        print(f"{name:32} {_line(settings, adaptive)}", flush=True)


def _line(settings: list[str], adaptive: bool) -> str:
    attack = build("gradient-matching")
    fields, guesses, recovered, seconds = [], [], [], []
    for one in _victims(settings):
        begun = time.process_time()
        claim = one.attacked(attack, adaptive=adaptive)
        seconds.append(time.process_time() - begun)
        table = one.people.table
        truth = table.take(one.rows).columns
        guess = match(table.schema.guess(len(one.rows)), truth, table.schema, one.scenario.judge.tolerance)
        # where nothing is claimed the guess speaks, as in a run's verdict
        found = one.judged(claim) if len(claim.records) else guess
        fields.append(found.right.mean())
        guesses.append(guess.right.mean())
        recovered.append(found.recovered.astype(float))
    whole = np.concatenate(recovered)
    return (
        f"fields {np.mean(fields):.3f} (worst client {min(fields):.3f}, guess {np.mean(guesses):.3f})  "
        f"records {int(whole.sum())} of {len(whole)}  CPU {np.mean(seconds):.1f} s (longest {max(seconds):.1f})"
    )


def _victims(settings: list[str]) -> Iterator[Victim]:
    for seed in REPORTED:
        for client in range(CLIENTS):
            yield victim("hospital", ["training.records_per_client=64", *settings, DEFENSE, f"seed={seed}"], client)
