"""How many fields and records gradient matching gets right, and how long it takes, alone and beside TabLeak."""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import adult
from benchmarks.victims import victim
from fedinv import plugins
from fedinv.attack import Attack, Claim
from fedinv.judge.matching import Match

SEEDS = 4
SETTINGS = {
    "FedSGD, 1 record": ["training.algorithm=fedsgd", "training.batch_size=1"],
    "FedSGD, 8 records": ["training.algorithm=fedsgd", "training.batch_size=8"],
    "FedSGD, 16 records": ["training.algorithm=fedsgd", "training.batch_size=16"],
    "FedAvg, 16 records": ["training.records_per_client=16"],
}
TABLEAK_SECONDS = {1: 116.8, 4: 116.3, 8: 136.5, 16: 139.1, 32: 157.4}
"""CPU seconds that TabLeak's own code took a victim on the machine where its reconstructions were made."""


def main() -> None:
    """Hospital, MLP 512-512, lr 0.05, FedAvg with 5 local epochs of batch 8; then TabLeak's batches of Adult."""
    torch.set_num_threads(1)
    for name, settings in SETTINGS.items():
        victims = [
            victim("hospital", ["training.records_per_client=64", *settings, f"seed={seed}"]) for seed in range(SEEDS)
        ]
        _print(name, [_timed(lambda one=one: one.attacked(_attack("fedinv")), one.judged) for one in victims], "")
    for size, seconds in TABLEAK_SECONDS.items():
        for preset in ("fedinv", "tableak"):
            attack, found = _attack(preset), []
            for batch in adult.batches(size):
                found.append(
                    _timed(
                        lambda batch=batch, attack=attack: attack.run(
                            batch.seen, batch.knows, np.random.default_rng(0), lambda _: None
                        ),
                        lambda claim, batch=batch: batch.judged(claim.records),
                    )
                )
            theirs = [batch.judged(batch.tableak) for batch in adult.batches(size)]
            right, whole = (np.mean([getattr(m, kind).mean() for m in theirs]) for kind in ("right", "recovered"))
            note = f"; TabLeak {right:.3f}, {whole:.3f}, {seconds} s"
            _print(f"Adult, {size} records, {preset}", found, note)


def _attack(preset: str) -> Attack:
    attack = plugins.load("attacks", "gradient-matching")(kind="gradient-matching", preset=preset)
    assert isinstance(attack, Attack)
    return attack


def _timed(attacked: Callable[[], Claim], judged: Callable[[Claim], Match]) -> tuple[float, float, float]:
    """Shares of fields right and of records recovered, and CPU seconds."""
    begun = time.process_time()
    claim = attacked()
    seconds = time.process_time() - begun
    found = judged(claim)
    return float(found.right.mean()), float(found.recovered.mean()), seconds


def _print(name: str, found: list[tuple[float, float, float]], note: str) -> None:
    fields, recovered, seconds = np.mean(found, 0)
    print(f"{name:28} fields right {fields:.3f}  recovered {recovered:.3f}  CPU {seconds:.2f} s{note}", flush=True)
