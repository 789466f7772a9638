"""How many fields and records gradient matching gets right, and how long it takes."""

import time

import numpy as np
import torch

from benchmarks.victims import victim
from fedinv import plugins
from fedinv.attack import Attack

SEEDS = 4
SETTINGS = {
    "FedSGD, 1 record": ["training.algorithm=fedsgd", "training.batch_size=1"],
    "FedSGD, 8 records": ["training.algorithm=fedsgd", "training.batch_size=8"],
    "FedSGD, 16 records": ["training.algorithm=fedsgd", "training.batch_size=16"],
    "FedAvg, 16 records": ["training.records_per_client=16"],
}


def main() -> None:
    """Hospital, MLP 512-512, lr 0.05; FedAvg is 5 local epochs of batch 8. Mean over the seeds, one torch thread."""
    torch.set_num_threads(1)
    attack = plugins.load("attacks", "gradient-matching")(kind="gradient-matching")
    assert isinstance(attack, Attack)
    for name, settings in SETTINGS.items():
        fields, recovered, seconds = [], [], []
        for seed in range(SEEDS):
            one = victim("hospital", ["training.records_per_client=64", *settings, f"seed={seed}"])
            begun = time.process_time()
            claim = one.attacked(attack)
            seconds.append(time.process_time() - begun)
            found = one.judged(claim)
            fields.append(found.right.mean())
            recovered.append(found.recovered.mean())
        print(
            f"{name:20} fields right {np.mean(fields):.3f}  recovered {np.mean(recovered):.3f}  "
            f"CPU {np.mean(seconds):.2f} s"
        )
