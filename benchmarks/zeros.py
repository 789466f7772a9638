"""Records that `zeros` reads behind Adam and other optimizers, beside every other attack on updates and the guess."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmarks.attacking import build
from benchmarks.victims import Victim, victim
from fedinv.judge.matching import match

TUNED = tuple(range(1, 9))
"""Seeds on which settings were chosen."""
REPORTED = tuple(range(101, 111))
"""Seeds of the table, on none of which a setting was chosen."""
ONE = ("training.algorithm=fedsgd", "training.records_per_client=64")
BANK = ("training.algorithm=fedavg", "training.epochs=5", "training.records_per_client=16", "training.batch_size=8")
SETTINGS: dict[str, tuple[str, Sequence[str]]] = {
    "one step, 8 records": ("hospital-adam", (*ONE, "training.batch_size=8")),
    "one step, 16 records": ("hospital-adam", (*ONE, "training.batch_size=16")),
    "one step, 32 records": ("hospital-adam", (*ONE, "training.batch_size=32")),
    "one step, 64 records": ("hospital-adam", (*ONE, "training.batch_size=64")),
    "1 epoch, 16 by 8": ("hospital-adam", ("training.epochs=1",)),
    "1 epoch, 16 by 4": ("hospital-adam", ("training.epochs=1", "training.batch_size=4")),
    "1 epoch, 32 by 16": (
        "hospital-adam",
        ("training.epochs=1", "training.records_per_client=32", "training.batch_size=16"),
    ),
    "1 epoch, 32 by 8": ("hospital-adam", ("training.epochs=1", "training.records_per_client=32")),
    "5 epochs, 8 by 8": ("hospital-adam", ("training.records_per_client=8", "training.batch_size=8")),
    "5 epochs, 16 by 16": ("hospital-adam", ("training.batch_size=16",)),
    "5 epochs, 16 by 8": ("hospital-adam", ()),
    "5 epochs, 32 by 32": ("hospital-adam", ("training.records_per_client=32", "training.batch_size=32")),
    "AdamW, decay 0.01, 5 epochs, 16 by 8": (
        "hospital-adam",
        ("training.optimizer=adamw", "training.weight_decay=0.01"),
    ),
    "RMSprop, 5 epochs, 16 by 8": ("hospital-adam", ("training.optimizer=rmsprop",)),
    "RMSprop, learning rate 0.0001, 5 epochs, 16 by 8": (
        "hospital-adam",
        ("training.optimizer=rmsprop", "training.lr=0.0001"),
    ),
    "momentum 0.9, 5 epochs, 16 by 8": (
        "hospital-adam",
        ("training.optimizer=sgd", "training.momentum=0.9", "training.lr=0.005"),
    ),
    "top-k, keep 0.3, known to the attacker, 5 epochs, 8 by 8": (
        "hospital-adam",
        ("training.records_per_client=8", "training.batch_size=8", 'defenses=[{kind="top-k",keep=0.3}]'),
    ),
    "bank, Adam, 512-512, 5 epochs, 16 by 8": (
        "bank",
        (*BANK, "model.hidden=[512,512]", "training.optimizer=adam", "training.lr=0.001"),
    ),
    "own table, Adam, width 128, 5 epochs, 16 by 8": (
        "own-table",
        (*BANK, "model.hidden=[128]", "training.optimizer=adam", "training.lr=0.001"),
    ),
    "own table, Adam, 128-128, one step, 8 records": (
        "own-table",
        (*ONE, "training.batch_size=8", "model.hidden=[128,128]", "training.optimizer=adam", "training.lr=0.001"),
    ),
    "width 128, one step, 8 records": (
        "hospital-adam",
        (*ONE, "training.batch_size=8", "model.hidden=[128,128]"),
    ),
    "width 128, 5 epochs, 8 by 8": (
        "hospital-adam",
        ("training.records_per_client=8", "training.batch_size=8", "model.hidden=[128,128]"),
    ),
}
"""Scenario and training of each line; FedAvg is 5 local epochs at learning rate 0.001 unless it says otherwise."""
OTHERS = ("exact", "row-space", "gradient-matching")
BESIDE = ("one step, 8 records", "5 epochs, 8 by 8")
"""Lines for which the other attacks are run as well."""


def main() -> None:
    """MLP 512-512 on hospital unless the line says otherwise; the first client of each seed; one torch thread."""
    torch.set_num_threads(1)
    print(f"settings chosen on seeds {TUNED[0]} to {TUNED[-1]}, table of seeds {REPORTED[0]} to {REPORTED[-1]}")
    for name, (scenario, settings) in SETTINGS.items():
        for kind in ("zeros", *(OTHERS if name in BESIDE else ())):
            print(_line(name, kind, scenario, settings), flush=True)


def _line(name: str, kind: str, scenario: str, settings: Sequence[str]) -> str:
    fields, guesses, recovered, exact, verified, seconds = [], [], [], [], [], []
    for one in _victims(scenario, settings):
        begun = time.process_time()
        claim = one.attacked(build(kind), adaptive=bool(one.scenario.defenses))
        seconds.append(time.process_time() - begun)
        table = one.people.table
        truth = table.take(one.rows).columns
        guess = match(table.schema.guess(len(one.rows)), truth, table.schema, one.scenario.judge.tolerance)
        # where nothing is claimed the guess speaks, as in a run's verdict
        found = one.judged(claim) if len(claim.records) else guess
        fields.append(found.right.mean())
        guesses.append(guess.right.mean())
        claimed = len(claim.records) > 0
        recovered.append(found.recovered & claimed)
        exact.append(found.exact & claimed)
        verified.append(int(claim.verified.sum()))
    whole, every = np.concatenate(recovered), np.concatenate(exact)
    return (
        f"{name:57} {kind:17} fields {np.mean(fields):.3f} (guess {np.mean(guesses):.3f})  every field right "
        f"{int(whole.sum())} of {len(whole)}, every digit {int(every.sum())}, verified {sum(verified)}  "
        f"CPU {np.mean(seconds):.1f} s (longest {max(seconds):.1f})"
    )


def _victims(scenario: str, settings: Sequence[str]) -> Iterator[Victim]:
    for seed in REPORTED:
        yield victim(scenario, [*settings, f"seed={seed}"])
