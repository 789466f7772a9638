"""An app's own local training, called on records that are claimed: its parameters are matched by their names."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fedinv.errors import RequestError, nearest
from fedinv.task.foreign.factory import load_object

PASSES = ("epochs", "num_epochs", "local_epochs", "n_epochs")
"""Names under which a training takes its number of passes."""
RATES = ("lr", "learning_rate")
"""Names under which it takes its learning rate."""
DEVICES = ("device",)
"""Names under which it takes the device that it runs on, here the processor."""
OWN = ("batch",)
"""Keys beside a training's own parameters: the records of a local batch."""
LABELS = ("label", "labels", "target", "targets", "y", "fine_label", "income")
"""Keys of a batch under which targets are asked for; any other is asked for inputs."""

Order = Sequence[Sequence[int]]
"""The rows of each batch of one pass."""


@dataclass(frozen=True)
class AppTrain:
    """A local training `train(network, loader, ...)`, with values for all other parameters."""

    name: str
    """Name in messages."""
    function: Callable[..., Any]
    extras: Mapping[str, Any]
    """Values of its other parameters, by name."""

    def run(self, network: nn.Module, inputs: Tensor, targets: Tensor, passes: Sequence[Order]) -> None:
        """Train a network in place on records in these orders, one for each pass, from the first again after the last.

        Raises whatever the app's code raises.
        """
        network.train()
        self.function(network, loader_of(inputs, targets, passes), **self.extras)


class Batch(tuple[Any, ...]):
    """A batch of inputs and targets that can be unpacked, as by most apps, or asked by key, as Flower's data sets."""

    def __getitem__(self, key: Any) -> Any:
        """By place, or by key: targets for keys that name labels, inputs for others."""
        if isinstance(key, str):
            return super().__getitem__(1 if key.lower() in LABELS else 0)
        return super().__getitem__(key)


class _Passes:
    """A sampler of batches that gives the order of one pass each time that it is gone through."""

    def __init__(self, passes: Sequence[Order]) -> None:
        self.passes = passes
        self.gone = 0

    def __len__(self) -> int:
        return len(self.passes[0])

    def __iter__(self) -> Iterator[list[int]]:
        order = self.passes[self.gone % len(self.passes)]
        self.gone += 1
        return iter([list(rows) for rows in order])


def loader_of(inputs: Tensor, targets: Tensor, passes: Sequence[Order]) -> "DataLoader[Any]":
    """A loader of these records whose batches are those of the first pass, then of the second, and so on."""
    return DataLoader(
        TensorDataset(inputs, targets),
        batch_sampler=_Passes(passes),
        collate_fn=lambda rows: Batch(torch.stack(column) for column in zip(*rows, strict=True)),
    )


def read_train(given: "str | Callable[..., Any]", extras: Mapping[str, Any], project: Path | None = None) -> AppTrain:
    """The training that "app.task:train" or a function means, its parameters given values by name.

    The first two parameters are the network and the loader. Of the others the number of passes is 1 where `extras` has
    none, the device the processor; each without a default must be in `extras`. Raises RequestError naming parameters
    that are missing, and extras that are none.
    """
    found = load_object(given, project, "--train") if isinstance(given, str) else given
    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    if not callable(found):
        raise RequestError(f"--train: {name} is a {type(found).__name__}, name a function of a network and a loader")
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        raise RequestError(f"--train: {name} does not say what parameters it has") from None
    kinds = inspect.Parameter
    named = [one for one in parameters.values() if one.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    placed = [one for one in named if one.kind is kinds.POSITIONAL_OR_KEYWORD]
    if len(placed) < 2:
        raise RequestError(
            f"--train: {name} has the parameters {', '.join(parameters) or 'none'}, and is called with a network and a "
            "loader first, as train(net, loader, epochs)"
        )
    rest = [one for one in named if one not in placed[:2]]
    own, values = {one.name for one in rest}, dict[str, Any]()
    for key, value in extras.items():
        like = next((names for names in (PASSES, RATES) if key in names), (key,))
        target = key if key in own else next((one for one in like if one in own), None)
        if target is not None:
            values[target] = value
        elif key not in OWN:
            raise RequestError(f"--train-with: {name} has no parameter {key!r}{nearest(key, {*own, *OWN})}")
    for one in rest:
        if one.name not in values and one.default is kinds.empty:
            usual = 1 if one.name in PASSES else torch.device("cpu") if one.name in DEVICES else None
            if usual is not None:
                values[one.name] = usual
    missing = [one.name for one in rest if one.name not in values and one.default is kinds.empty]
    if missing:
        shown = ",".join(f"{one}=..." for one in missing)
        raise RequestError(
            f"--train: {name} needs {', '.join(missing)} beside network and loader, write --train-with '{shown}'"
        )
    return AppTrain(name, found, values)
