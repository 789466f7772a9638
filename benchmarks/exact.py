"""Share of records that the exact attack recovers, and how long it takes, over ten seeds."""

import time

import numpy as np
import torch

from benchmarks.victims import victim
from fedinv import plugins
from fedinv.attack import Attack

SEEDS = 10
SETTINGS = {
    "FedSGD, 8 records": ["training.algorithm=fedsgd", "training.batch_size=8"],
    "FedSGD, 16 records": ["training.algorithm=fedsgd", "training.batch_size=16"],
    "FedSGD, 32 records": ["training.algorithm=fedsgd", "training.batch_size=32"],
    "FedAvg, 16 records": ["training.records_per_client=16"],
    "FedAvg, 32 records": ["training.records_per_client=32"],
}


def main() -> None:
    """Hospital, MLP 512-512, lr 0.05; FedAvg is 5 local epochs of batch 8. Mean over the seeds, one torch thread."""
    torch.set_num_threads(1)
    attack = plugins.load("attacks", "exact")(kind="exact")
    assert isinstance(attack, Attack)
    for name, settings in SETTINGS.items():
        recovered, exact, seconds = [], [], []
        for seed in range(SEEDS):
            one = victim("hospital", ["training.records_per_client=64", *settings, f"seed={seed}"])
            begun = time.process_time()
            claim = one.attacked(attack)
            seconds.append(time.process_time() - begun)
            found = one.judged(claim)
            recovered.append(found.recovered.mean())
            exact.append(found.exact.mean())
        print(
            f"{name:20} recovered {np.mean(recovered):.3f} (worst {min(recovered):.3f})  exact {np.mean(exact):.3f}  "
            f"CPU {np.mean(seconds):.2f} s (longest {max(seconds):.2f})"
        )
