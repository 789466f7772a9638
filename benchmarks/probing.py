"""Whether records are recognized in one update of Flower's quickstart-pytorch, and of the same network under DP-SGD."""

import warnings
from collections.abc import Callable

import torch
from opacus import PrivacyEngine
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.foreign import Images
from fedinv.attack import Exchange
from fedinv.results.intervals import clopper_pearson
from fedinv.results.probing import RATES
from fedinv.runs.own_app import Target
from fedinv.runs.own_records.probe import Asked, probed

SEEDS = range(10, 20)
"""Seeds that nothing was tuned on."""
OTHERS = 1000

Train = Callable[[nn.Module, DataLoader[tuple[Tensor, ...]]], None]


def main() -> None:
    """Print, over ten seeds, members recognized at 1 % and 0.1 % of the others, with Clopper-Pearson intervals."""
    torch.set_num_threads(1)
    for images, batch in ((32, 32), (32, 8), (128, 32), (256, 256), (256, 32)):
        print(f"SGD 0.1, momentum 0.9, {images} images in batches of {batch}: {_rows(sgd, images, batch)}", flush=True)
    for images, batch in ((32, 32), (32, 4), (256, 32)):
        said = f"Opacus, noise 1, clip 1, {images} images in batches of {batch}"
        print(f"{said}: {_rows(private, images, batch)}", flush=True)


def sgd(network: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    """One epoch as quickstart-pytorch trains."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    _epoch(network, loader, optimizer)


def private(network: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    """One epoch as Flower's opacus example trains: Poisson batches, gradients clipped to 1, noise of 1."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its non-cryptographic generator, and of hooks on inputs without gradients
        module, dp_optimizer, dp_loader = PrivacyEngine(secure_mode=False).make_private(
            module=network, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
        )
        _epoch(module, dp_loader, dp_optimizer)


def _epoch(network: nn.Module, loader: DataLoader[tuple[Tensor, ...]], optimizer: torch.optim.Optimizer) -> None:
    network.train()
    for x, y in loader:
        if len(x):
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(network(x), y).backward()
            optimizer.step()


def _rows(train: Train, images: int, batch: int) -> str:
    found, false, total = [0] * len(RATES), [0] * len(RATES), 0
    for seed in SEEDS:
        torch.manual_seed(seed)
        network, x, y = Images(), _smooth(images), torch.randint(0, 10, (images,))
        sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        trained = Images()
        trained.load_state_dict(sent)
        train(trained, DataLoader(TensorDataset(x, y), batch_size=batch, shuffle=True))
        received = {name: tensor - sent[name] for name, tensor in trained.state_dict().items()}
        target = Target(Exchange(1, sent, received, images), 0, images)
        one, _ = probed(network, target, 0, Asked(x, _smooth(OTHERS), members=True))
        total += images
        for place, at in enumerate(one.at):
            found[place] += at.found or 0
            false[place] += at.false or 0
    said = []
    for rate, hits, wrong in zip(RATES, found, false, strict=True):
        low, high = clopper_pearson(hits, total)
        share = f"{100 * hits / total:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        said.append(f"at {100 * rate:g} % {hits} of {total}, {share}, false {wrong} of {OTHERS * len(SEEDS)}")
    return "; ".join(said)


def _smooth(count: int) -> Tensor:
    return 2 * functional.interpolate(torch.rand(count, 3, 8, 8), 32, mode="bilinear") - 1
