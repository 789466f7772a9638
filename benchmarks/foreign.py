"""What is read off a foreign network's update without the truth: by its records, and by how its app trains."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fedinv.attack import Exchange
from fedinv.runs.own_apps.reading import attacked
from fedinv.runs.own_apps.targets import Given, Target

from . import foreign_apps
from .foreign_networks import Images, Tabular

SEEDS = range(10)
RIGHT = 0.319
"""Largest error of a right record's inputs, in standard deviations of all of them."""


def main() -> None:
    """Print records verified, and how many of those are false, over ten seeds."""
    torch.set_num_threads(1)
    for name, kind, lr in (("SGD", torch.optim.SGD, 0.1), ("Adam", torch.optim.Adam, 1e-3)):
        for records in (8, 32):
            print(f"tabular, {name}, {records} records: {_tables(kind, lr, records)}", flush=True)
    for records in (4, 8):
        print(f"images, SGD, {records} records, features of fc1: {_images(records)}", flush=True)
    for line in foreign_apps.lines():
        print(line, flush=True)


def _tables(kind: type[torch.optim.Optimizer], lr: float, records: int) -> str:
    found = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        network, x, y = Tabular(), torch.randn(records, 14), (torch.rand(records, 1) > 0.5).float()
        found.append(_step(network, nn.BCELoss(), kind(network.parameters(), lr=lr), x, y, x))  # type: ignore[call-arg]
    return _counts(found, records)


def _images(records: int) -> str:
    found = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        coarse = torch.rand(records, 3, 8, 8)
        network, y = Images(), torch.randint(0, 10, (records,))
        x = 2 * functional.interpolate(coarse, 32, mode="bilinear") - 1
        with torch.no_grad():
            features = network.pool(functional.relu(network.conv2(network.pool(functional.relu(network.conv1(x))))))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        found.append(_step(network, nn.CrossEntropyLoss(), optimizer, x, y, features.flatten(1)))
    return _counts(found, records)


def _step(
    network: nn.Module,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    truth: torch.Tensor,
) -> tuple[int, int, float]:
    """Records verified, false ones among them, and CPU seconds of the attacks on one step."""
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loss(network(x), y).backward()
    optimizer.step()
    update = {name: tensor - sent[name] for name, tensor in network.state_dict().items()}
    network.load_state_dict(sent)
    target = Target(Exchange(1, sent, update, 1), 0, 1)
    verdict, claims = attacked(Given(network), [target], [], lambda share: None)
    if 0 not in claims:
        return 0, 0, verdict.updates[0].seconds
    apart = torch.cdist(claims[0].records, truth, p=torch.inf).amin(1)
    return len(apart), int((apart > RIGHT * truth.std()).sum()), verdict.updates[0].seconds


def _counts(found: list[tuple[int, int, float]], records: int) -> str:
    verified, false, seconds = np.array(found).T
    whole = int((verified == records).sum())
    return (
        f"verified {int(verified.sum())} of {records * len(found)}, false {int(false.sum())}; whole batches {whole} of "
        f"{len(found)}; {np.median(seconds):.2f} CPU s (longest {seconds.max():.2f})"
    )
