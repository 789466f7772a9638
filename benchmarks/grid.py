"""TabLeak's grid of local training on the hospital: how epochs and batch size affect the records recovered."""

import torch

from benchmarks.attacking import attacked, build
from benchmarks.victims import victim

SEEDS = 10


def main() -> None:
    """32 records a client, MLP 512-512, learning rate 0.05: 1, 5, 10 epochs by local batches of 32, 16, 8."""
    torch.set_num_threads(1)
    for kind in ("exact", "row-space"):
        for epochs in (1, 5, 10):
            for size in (32, 16, 8):
                local = [
                    "training.records_per_client=32",
                    f"training.epochs={epochs}",
                    f"training.batch_size={size}",
                ]
                targets = (victim("hospital", [*local, f"seed={seed}"]) for seed in range(SEEDS))
                print(attacked(build(kind), targets).line(f"{epochs} epochs of batch {size}, {kind}"))
