"""Share of fields and records that gradient matching gets right, and how long it takes, alone and beside TabLeak."""

import torch

from benchmarks import adult
from benchmarks.attacking import Score, attacked, build
from benchmarks.victims import victim

SEEDS = 4
SETTINGS = {
    "FedSGD, 1 record": ["training.algorithm=fedsgd", "training.batch_size=1"],
    "FedSGD, 8 records": ["training.algorithm=fedsgd", "training.batch_size=8"],
    "FedSGD, 16 records": ["training.algorithm=fedsgd", "training.batch_size=16"],
    "FedAvg, 16 records": ["training.records_per_client=16"],
}
TABLEAK_SECONDS = {1: 116.8, 4: 116.3, 8: 136.5, 16: 139.1, 32: 157.4}
"""CPU seconds that TabLeak's own code took per victim on the machine that computed its reconstructions."""


def main() -> None:
    """Hospital, MLP 512-512, lr 0.05, FedAvg with 5 local epochs of batch 8; then TabLeak's batches of Adult."""
    torch.set_num_threads(1)
    for name, settings in SETTINGS.items():
        victims = (
            victim("hospital", ["training.records_per_client=64", *settings, f"seed={seed}"]) for seed in range(SEEDS)
        )
        print(attacked(build("gradient-matching"), victims).line(name), flush=True)
    for size, seconds in TABLEAK_SECONDS.items():
        theirs = Score()
        for batch in adult.batches(size):
            if batch.tableak is not None:
                theirs.add(batch.judged(batch.tableak), seconds)
        print(theirs.line(f"Adult, {size} records, TabLeak"))
        for preset in ("tableak", "fedinv"):
            score = attacked(build("gradient-matching", preset=preset), adult.batches(size))
            print(score.line(f"Adult, {size} records, {preset}"), flush=True)
