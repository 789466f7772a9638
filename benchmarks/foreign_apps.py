"""Verified claims on apps after Flower's examples, whose own training is repeated: a hundred victims each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from fedinv.attack import Exchange
from fedinv.runs.own_apps.reading import attacked
from fedinv.runs.own_apps.targets import Given, Target, how_trained
from fedinv.task.foreign.training.entry import entry
from fedinv.task.foreign.training.training import read_training
from fedinv.task.foreign.training.verification import Observed, repeated

from .foreign_networks import Images, Tabular

SEEDS = range(1000, 1100)
"""A victim of each app a seed, none of which anything was tuned on."""
VICTIMS = len(SEEDS)
HANDED_OVER = 25
"""Victims, the first of an app, of whose records wrong claims are handed over too: most of the time goes there."""
RIGHT = 0.01
"""Largest error of a right record's inputs, in standard deviations of all of them."""
TARGET = 0.01
"""Largest error of a right target that is a number, in standard deviations of all of them."""


class Number(nn.Module):
    """A regression on 13 columns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(13, 128), nn.Linear(128, 64), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers (n, 1) of records (n, 13)."""
        return self.out(torch.relu(self.second(torch.relu(self.first(x)))))  # type: ignore[no-any-return]


Loader = DataLoader[Any]


def fl_tabular(model: nn.Module, loader: Loader, num_epochs: int = 1) -> None:
    """The training of fl-tabular, by SGD in place of Adam."""
    criterion, optimizer = nn.BCELoss(), torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _ in range(num_epochs):
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()


def quickstart_pytorch(net: nn.Module, trainloader: Loader, epochs: int, lr: float, device: str) -> None:
    """The training of quickstart-pytorch, whose batches are asked by key."""
    net.to(device)
    criterion, optimizer = nn.CrossEntropyLoss().to(device), torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    for _ in range(epochs):
        for batch in trainloader:
            images, labels = batch["img"].to(device), batch["label"].to(device)
            optimizer.zero_grad()
            criterion(net(images), labels).backward()
            optimizer.step()


def with_mods(net: nn.Module, loader: Loader, lr: float) -> None:
    """The training of an app with mods, which clips its gradient."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for x, y in loader:
        optimizer.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


def regression(net: nn.Module, loader: Loader) -> None:
    """The training of a regression, with weight decay."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, weight_decay=1e-3)
    for x, y in loader:
        optimizer.zero_grad()
        functional.mse_loss(net(x), y).backward()
        optimizer.step()


def noised(net: nn.Module, loader: Loader) -> None:
    """The training of the opacus example: records' gradients clipped to 1, noise of multiplier 1 on their sum."""
    for x, y in loader:
        total = [torch.zeros_like(one) for one in net.parameters()]
        for row in range(len(x)):
            net.zero_grad()
            functional.cross_entropy(net(x[row : row + 1]), y[row : row + 1]).backward()
            norm = torch.cat([one.grad.flatten() for one in net.parameters() if one.grad is not None]).norm()
            for added, one in zip(total, net.parameters(), strict=True):
                if one.grad is not None:
                    added += one.grad / max(1.0, float(norm))
        with torch.no_grad():
            for added, one in zip(total, net.parameters(), strict=True):
                one -= 0.001 * (added + torch.randn_like(added)) / len(x)


@dataclass(frozen=True)
class App:
    """An app, and what is said of its training."""

    name: str
    network: Callable[[], nn.Module]
    train: Callable[..., None]
    said: dict[str, Any]
    """What is said of it: loss, optimizer, train or train_with."""
    records: int
    draw: Callable[[int], tuple[Tensor, Tensor]]
    """Draws records and labels or targets."""
    extras: dict[str, Any] = field(default_factory=dict)
    """Values of its training's other parameters."""
    batch: int | None = None
    """Records of a local batch; None: all."""
    numbers: bool = False
    """Whether targets are numbers."""


def _rows(records: int) -> tuple[Tensor, Tensor]:
    return torch.randn(records, 14), (torch.rand(records, 1) > 0.5).float()


def _targets(records: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(records, 13)
    return x, x[:, :1] + 0.5 * torch.randn(records, 1)


def _pictures(records: int) -> tuple[Tensor, Tensor]:
    x = 2 * functional.interpolate(torch.rand(records, 3, 8, 8), 32, mode="bilinear") - 1
    return x, torch.randint(0, 10, (records,))


APPS = (
    App("fl-tabular by SGD", Tabular, fl_tabular, {"train": fl_tabular}, 32, _rows),
    App(
        "fl-tabular by SGD, 5 epochs",
        Tabular,
        fl_tabular,
        {"train": fl_tabular, "extras": "epochs=5"},
        12,
        _rows,
        {"num_epochs": 5},
    ),
    App(
        "quickstart-pytorch, features",
        Images,
        quickstart_pytorch,
        {"train": quickstart_pytorch, "extras": "lr=0.1"},
        8,
        _pictures,
        {"epochs": 1, "lr": 0.1, "device": "cpu"},
    ),
    App(
        "with mods, clipped, features",
        Images,
        with_mods,
        {"train": with_mods, "extras": "lr=0.005"},
        8,
        _pictures,
        {"lr": 0.005},
    ),
    App(
        "regression, weight decay",
        Number,
        regression,
        {"loss": "mse", "optimizer": "sgd:lr=0.05,weight_decay=1e-3"},
        16,
        _targets,
        numbers=True,
    ),
    App("opacus, noise 1", Images, noised, {"optimizer": "sgd:lr=0.001"}, 8, _pictures),
)
"""The apps, each with its own training or what makes it up."""


def lines() -> Iterator[str]:
    """A line for each app: victims whose records, number and labels are all right, and false claims of any kind."""
    for app in APPS:
        found = np.array([_victim(app, seed, place < HANDED_OVER) for place, seed in enumerate(SEEDS)])
        verified, false, mislabeled, whole, strange, short, left, seconds = found.T
        yield (
            f"{app.name}, {app.records} records: whole batches with all labels {int(whole.sum())} of {VICTIMS}, "
            f"verified {int(verified.sum())} of {app.records * VICTIMS}, false {int(false.sum())}, labels wrong "
            f"{int(mislabeled.sum())}; handed over as claims, of {2 * HANDED_OVER} wrong records {int(strange.sum())} "
            f"are verified, of {HANDED_OVER} batches without one record {int(short.sum())}, least mismatch "
            f"{left.min():.3f}; {np.median(seconds):.2f} CPU s"
        )


def _victim(app: App, seed: int, handed_over: bool) -> tuple[float, ...]:
    """Counts of one victim, as `lines` sums them up: what was verified, and what of wrong claims; seconds."""
    torch.manual_seed(seed)
    network = app.network()
    x, y = app.draw(app.records)
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    truth = _fed(network, x)
    app.train(network, _loader(x, y, app.batch), **app.extras)
    update = {name: tensor.detach() - sent[name] for name, tensor in network.state_dict().items()}
    network.load_state_dict(sent)
    given = Given(network, x[:2] * 0.5, training=read_training(**app.said))
    verdict, claims = attacked(given, [Target(Exchange(1, sent, update, 1), 0, 1)], [], lambda share: None)
    verified, false, wrong, whole = 0, 0, 0, False
    if 0 in claims:
        claim = claims[0]
        apart = torch.cdist(claim.records, truth, p=torch.inf)
        verified, places = len(apart), apart.argmin(1)
        false = int((apart.amin(1) > RIGHT * truth.std()).sum())
        if claim.labels is not None:
            off = (claim.labels.float() - y.flatten().float()[places]).abs()
            wrong = int((off > (TARGET * y.std() if app.numbers else 0.5)).sum())
        whole = verified == app.records == len(set(places.tolist())) and not false and not wrong
        whole = whole and claim.labels is not None
    strange, short, left = _wrong_claims(given, sent, update, truth) if handed_over else (0, False, np.inf)
    return verified, false, wrong, whole, strange, short, left, verdict.updates[0].seconds


def _wrong_claims(
    given: Given, sent: dict[str, Tensor], update: dict[str, Tensor], truth: Tensor
) -> tuple[int, bool, float]:
    """Wrong ones verified of two records, strange and blended, whether a set without one is, and the least mismatch."""
    how = how_trained(given)
    assert how is not None
    images = isinstance(given.network, Images)
    names = [name for name in sent if not images or name.startswith("fc")]
    start = entry(given.network, given.batch, "fc1" if images else None, names)
    shrunk = how.shrunk(1)
    seen = Observed(sent, update, {name: one - shrunk * sent[name] for name, one in update.items()})
    strange, blended = truth.clone(), truth.clone()
    strange[0] = truth[0] + truth.std() * torch.randn(truth.shape[1])
    blended[0] = (truth[0] + truth[1]) / 2
    tried = [repeated(start, how, seen, one, len(truth)) for one in (truth[1:], strange, blended)]
    false = sum(
        bool((torch.cdist(one.records[one.good], truth).amin(1) > 0).any()) for one in tried[1:] if one.verified
    )
    short = tried[0].whole and (tried[0].labels is not None)
    return false, short, min(one.mismatch for one in tried)


def _fed(network: nn.Module, x: Tensor) -> Tensor:
    """What feeds the first linear layer: records, or of images what convolutions made of them."""
    if not isinstance(network, Images):
        return x
    with torch.no_grad():
        x = network.pool(functional.relu(network.conv1(x)))
        return network.pool(functional.relu(network.conv2(x))).flatten(1)  # type: ignore[no-any-return]


def _loader(x: Tensor, y: Tensor, batch: int | None) -> Loader:
    class Keyed(tuple[Tensor, Tensor]):
        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(1 if key == "label" else 0 if key == "img" else key)

    rows = DataLoader(TensorDataset(x, y), batch_size=batch or len(x), shuffle=True)
    rows.collate_fn = lambda found: Keyed(torch.stack(column) for column in zip(*found, strict=True))
    return rows
