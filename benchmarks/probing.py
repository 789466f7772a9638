"""Whether records are recognized in one update of Flower's quickstart-pytorch, and of the same network under DP-SGD."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from opacus import PrivacyEngine
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.foreign import Images
from fedinv.attack import Exchange
from fedinv.data.sources.faces import Faces
from fedinv.results.intervals import clopper_pearson
from fedinv.results.probing import RATES
from fedinv.runs.own_apps.targets import Target
from fedinv.runs.own_records.files import Layout
from fedinv.runs.own_records.probe import Asked, probed
from fedinv.runs.own_records.updates import Updates

SEEDS = range(10, 20)
"""Seeds that nothing was tuned on."""
OTHERS = 1000

BEFORE = 600
"""Faces that the network has learned from where it is not fresh, five epochs: nobody's of those below."""

Loader = DataLoader[tuple[Tensor, ...]]
Train = Callable[[nn.Module, Loader], None]


@dataclass(frozen=True)
class Case:
    """One update of a client, several times."""

    name: str
    train: Train
    images: int
    batch: int
    faces: bool = False
    """Whether images are faces of ten people, and labels who they are; else smooth noise, with random labels."""
    trained: bool = False
    """Whether the network has learned from other faces before."""


def main() -> None:
    """Print, over ten seeds, members recognized at 1 % and 0.1 % of the others, with Clopper-Pearson intervals."""
    torch.set_num_threads(1)
    cases = [Case("SGD 0.1, momentum 0.9", sgd, n, b) for n, b in ((32, 32), (32, 8), (128, 32), (256, 256), (256, 32))]
    cases += [Case("SGD 0.1, momentum 0.9", sgd, n, b, faces=True) for n, b in ((32, 32), (256, 256), (256, 32))]
    cases += [Case("SGD 0.1, momentum 0.9", sgd, n, b, True, True) for n, b in ((32, 32), (256, 256))]
    cases += [Case("Adam 0.001", adam, 32, 32, faces=True)]
    cases += [Case("Opacus, noise 1, clip 1", private, n, b) for n, b in ((32, 32), (32, 4), (256, 32))]
    for one in cases:
        what = "faces, of a trained network," if one.trained else "faces" if one.faces else "images"
        print(f"{one.name}, {one.images} {what} in batches of {one.batch}: {_row(one)}", flush=True)


def sgd(network: nn.Module, loader: Loader) -> None:
    """One epoch as quickstart-pytorch trains."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    _epoch(network, loader, optimizer)


def adam(network: nn.Module, loader: Loader) -> None:
    """One epoch of Adam."""
    _epoch(network, loader, torch.optim.Adam(network.parameters(), lr=1e-3))


def private(network: nn.Module, loader: Loader) -> None:
    """One epoch as Flower's opacus example trains: Poisson batches, gradients clipped to 1, noise of 1."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its non-cryptographic generator, and of hooks on inputs without gradients
        module, dp_optimizer, dp_loader = PrivacyEngine(secure_mode=False).make_private(
            module=network, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
        )
        _epoch(module, dp_loader, dp_optimizer)


def _epoch(network: nn.Module, loader: Loader, optimizer: torch.optim.Optimizer) -> None:
    network.train()
    for x, y in loader:
        if len(x):
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(network(x), y).backward()
            optimizer.step()


def _row(case: Case) -> str:
    found, false, total = [0] * len(RATES), [0] * len(RATES), case.images * len(SEEDS)
    for seed in SEEDS:
        torch.manual_seed(seed)
        x, y = _faces(seed) if case.faces else _smooth(case.images + OTHERS)
        network, trained = Images(), Images()
        if case.trained:
            loader = DataLoader(TensorDataset(x[-BEFORE:], y[-BEFORE:]), batch_size=32, shuffle=True)
            for _ in range(5):
                _epoch(network, loader, torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9))
        trained.load_state_dict(network.state_dict())
        mine, others = x[: case.images], x[case.images : case.images + OTHERS]
        case.train(trained, DataLoader(TensorDataset(mine, y[: case.images]), batch_size=case.batch, shuffle=True))
        sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        received = {name: tensor - sent[name] for name, tensor in trained.state_dict().items()}
        target = Target(Exchange(1, sent, received, case.images), 0, case.images)
        updates = Updates(network, mine, (target,), (), Layout(tuple(mine.shape[1:])))
        one, _ = probed(updates, 0, Asked(mine, others, members=True))
        for place, at in enumerate(one.at):
            found[place] += at.found or 0
            false[place] += at.false or 0
    said = []
    for rate, hits, wrong in zip(RATES, found, false, strict=True):
        low, high = clopper_pearson(hits, total)
        share = f"{100 * hits / total:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        said.append(f"at {100 * rate:g} % {hits} of {total}, {share}, false {wrong} of {OTHERS * len(SEEDS)}")
    return "; ".join(said)


def _smooth(count: int) -> tuple[Tensor, Tensor]:
    images = 2 * functional.interpolate(torch.rand(count, 3, 8, 8), 32, mode="bilinear") - 1
    return images, torch.randint(0, 10, (count,))


def _faces(seed: int) -> tuple[Tensor, Tensor]:
    table = Faces(source="faces", persons=10, portraits=200).load(seed)
    pixels = torch.from_numpy(table.columns["portrait"]).float().reshape(-1, 3, 32, 32)
    return 2 * pixels - 1, torch.from_numpy(table.labels)
