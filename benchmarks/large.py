"""Batches larger than a record is wide, on the hospital: FedSGD, the search in spans beside gradient matching."""

import torch

from benchmarks.attacking import attacked, build
from benchmarks.victims import Victim, victim

SEEDS = 3
EASY = ((32, 512), (64, 1024))
LARGE = ((64, 512), (128, 512), (256, 512), (64, 100), (128, 100))


def main() -> None:
    """Records and width of both hidden layers; `tableak` is this project's, of 128 records for one seed: minutes."""
    torch.set_num_threads(1)
    for records, width in EASY:
        _print("exact", records, width)
    for records, width in LARGE:
        _print("row-space", records, width)
        if records <= 128:
            _print("gradient-matching", records, width, SEEDS if records <= 64 else 1, preset="tableak")


def _print(kind: str, records: int, width: int, seeds: int = SEEDS, **keys: object) -> None:
    score = attacked(build(kind, **keys), (_victim(records, width, seed) for seed in range(seeds)))
    print(score.line(f"{records} records, MLP {width}-{width}, {keys.get('preset', kind)}"), flush=True)


def _victim(records: int, width: int, seed: int) -> Victim:
    sets = [
        "training.algorithm=fedsgd",
        f"training.batch_size={records}",
        f"training.records_per_client={records}",
        f"model.hidden=[{width},{width}]",
        "federation.clients=5",
        f"seed={seed}",
    ]
    return victim("hospital", sets)
