"""The workload of every simulator; it imports nothing but torch, so that it runs in any peer's environment.

Each client has 64 records of 32 numbers and trains an MLP 32-64-64-2 for one epoch of batches of 16 by SGD at 0.05;
the server takes the mean. All clients take part in every round.
"""

import argparse
import json
import statistics
import time
from itertools import pairwise

import torch
from torch import Tensor, nn

RECORDS, WIDTH, HIDDEN, CLASSES, BATCH, LR = 64, 32, 64, 2, 16, 0.05


def data(clients: int) -> tuple[Tensor, Tensor]:
    """Random inputs, float32 (clients, 64, 32), and labels that depend on them, int64 (clients, 64)."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(clients, RECORDS, WIDTH, generator=generator)
    rule, noise = torch.randn(WIDTH, generator=generator), torch.randn(clients, RECORDS, generator=generator)
    return inputs, ((inputs @ rule + 0.5 * noise) > 0).long()


def model() -> nn.Sequential:
    """A new network, always with the same initial weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
    )


def epoch(network: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """Train a client for one epoch by plain SGD on shuffled batches."""
    sgd, criterion = torch.optim.SGD(network.parameters(), LR), nn.CrossEntropyLoss()
    for rows in torch.randperm(len(inputs)).split(BATCH):
        sgd.zero_grad()
        criterion(network(inputs[rows]), labels[rows]).backward()
        sgd.step()


def arguments() -> argparse.Namespace:
    """Parse --clients and --rounds, and set torch to one thread."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    torch.set_num_threads(1)
    return parser.parse_args()


def report(clients: int, began: float, ends: list[float]) -> None:
    """Print the first round's seconds, and clients per second: the median over later rounds, as one line of JSON."""
    rounds = [after - before for before, after in pairwise(ends)]
    rate = clients / statistics.median(rounds) if rounds else clients / (ends[0] - began)
    print(json.dumps({"first_round_s": ends[0] - began, "clients_per_s": rate}))


now = time.perf_counter
