"""How an app trains: its loss, its optimizer or its whole local training, and what its steps are made of."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedinv.errors import RequestError, nearest, plain
from fedinv.task.foreign.training.losses import AppLoss, Form, Objective, fitting_form, loss_form, read_loss, usual_loss
from fedinv.task.foreign.training.optimizer import MakeOptimizer, Steps, read_optimizer, steps_of, watching
from fedinv.task.foreign.training.spec import table
from fedinv.task.foreign.training.train_function import OWN, PASSES, AppTrain, Order, read_train

PLAIN = ("epochs", *OWN)
"""Keys of a training that is not the app's own."""


FAR = 1000.0
"""Factor by which an example is enlarged to see whether outputs are chances."""


@dataclass(frozen=True)
class Training:
    """The local training of an app, as far as it is known."""

    loss: AppLoss | None = None
    """Loss; None where it is not known, and cross-entropy, or binary cross-entropy, is taken."""
    optimizer: MakeOptimizer | None = None
    """Makes the optimizer; None where it is not known, and one step of plain SGD of any length is taken."""
    train: AppTrain | None = None
    """The app's own training; None where loss and optimizer make it up."""
    epochs: int = 1
    """Passes over a client's records in a round, where the training is not the app's own."""
    batch: int | None = None
    """Records of a local batch; None: all of a client's."""


UNKNOWN = Training()
"""The training of an app of which nothing is said."""


def read_training(
    loss: "str | Objective | None" = None,
    optimizer: "str | MakeOptimizer | None" = None,
    train: "str | Callable[..., Any] | None" = None,
    extras: str | Mapping[str, Any] | None = None,
    project: Path | None = None,
) -> Training:
    """The training that options say, each a name or the function itself; `extras` are values of train's parameters.

    Without `train` the extras are `epochs` and `batch`, for which an optimizer must be named. Raises RequestError in
    one line where any of them cannot be had, or an extra is not known.
    """
    given = table(extras, "--train-with")
    for key in ("batch", *PASSES):
        if key in given and (isinstance(given[key], bool) or not isinstance(given[key], int) or given[key] < 1):
            raise RequestError(f"--train-with: {key} is {given[key]!r}, must be a whole number, 1 or more")
    found = None if loss is None else read_loss(loss, project)
    made = None if optimizer is None else read_optimizer(optimizer, project)
    batch = given.get("batch")
    if train is not None:
        if made is not None:
            raise RequestError("--optimizer: is not used beside --train, whose own optimizer is: leave one of them out")
        return Training(found, None, read_train(train, given, project), batch=batch)
    for key in given:
        if key not in PLAIN:
            raise RequestError(f"--train-with: without --train there is no {key!r}{nearest(key, PLAIN)}")
    if given and made is None:
        raise RequestError(
            "--train-with: needs --train or --optimizer, as without either one step of any length is taken"
        )
    return Training(found, made, None, given.get("epochs", 1), batch)


@dataclass(frozen=True)
class Repeatable:
    """A training fitted to a network: what it takes as targets, and what its steps are made of."""

    training: Training
    loss: AppLoss | None
    """Loss; None where the app's own training alone knows it."""
    form: Form
    """Form of the targets that it takes."""
    usual: AppLoss
    """Loss that is taken where the app's own training alone knows it, and several steps hide it."""
    usual_form: Form
    """Form of the targets that the usual loss takes."""
    outputs: int
    """Outputs of the network for a record."""
    steps: Steps
    """Steps of the optimizer; `count` is how many a training on a single batch takes."""

    @property
    def classes(self) -> int:
        """Number of classes, where targets are classes."""
        return max(2, self.outputs)

    @property
    def lr(self) -> float | None:
        """Learning rate; None where it is not known."""
        return self.steps.number("lr") or None

    @property
    def any_length(self) -> bool:
        """Whether nothing is known of the optimizer, so that one step of any length is taken."""
        return self.training.optimizer is None and self.training.train is None

    @property
    def like_chances(self) -> bool:
        """Whether attacks that take the loss for cross-entropy find a record's slopes: also of any with one output."""
        return self.outputs == 1 or (self.loss is not None and self.loss.chances)

    def shrunk(self, records: int) -> float:
        """Change of a weight of 1 by the optimizer's weight decay alone, over the local steps of so many records."""
        if not self.steps.linear or not self.steps.number("weight_decay"):
            return 0.0
        weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        settings = {
            key: self.steps.settings[key] for key in ("lr", "momentum", "weight_decay", "nesterov", "dampening")
        }
        optimizer = torch.optim.SGD([weight], **settings)
        for _ in range(self.steps.count * math.ceil(records / min(self.training.batch or records, records))):
            weight.grad = torch.zeros_like(weight)
            optimizer.step()
        return float(weight.detach()) - 1.0

    def single(self, records: int) -> bool:
        """Whether a client of so many records takes one step."""
        return self.steps.count == 1 and (self.training.batch or records) >= records

    def train(self, network: nn.Module, inputs: Tensor, targets: Tensor, passes: Sequence[Order]) -> None:
        """Train a network in place, as the app would, on targets of its form. Raises whatever the app's code raises."""
        if self.training.train is not None:
            self.training.train.run(network, inputs, targets, passes)
            return
        assert self.loss is not None  # without a training of its own the loss is known
        network.train()
        weights, make = list(network.parameters()), self.training.optimizer
        optimizer = None if make is None else make(weights)
        for epoch in range(self.training.epochs):
            for rows in passes[epoch % len(passes)]:
                network.zero_grad()
                chosen = list(rows)
                self.loss.objective(network(inputs[chosen]), targets[chosen]).backward()  # type: ignore[no-untyped-call]
                if optimizer is not None:
                    optimizer.step()
                else:  # by hand, as the first step of any of torch's optimizers imports its compiler for seconds
                    with torch.no_grad():
                        for weight in weights:
                            weight.sub_(0.0 if weight.grad is None else weight.grad)


def fit(training: Training, network: nn.Module, example: Tensor) -> Repeatable:
    """A training fitted to a network by running it on a copy, on an example (n, ...) of its inputs, n at least 2.

    Raises RequestError, beginning with the option, where the loss does not take the network's outputs, or the app's
    training fails on every form of targets.
    """
    try:
        with torch.no_grad():
            still = copy.deepcopy(network).eval()
            outputs = still(example)
    except Exception as error:  # a network of somebody else's may raise anything
        raise RequestError(
            f"the network does not accept an example of the shape {tuple(example.shape)}: {type(error).__name__}: "
            "name a batch of its inputs by --example"
        ) from None
    if not isinstance(outputs, Tensor):
        raise RequestError(
            f"--network: gives a {type(outputs).__name__}, and a training is repeated on outputs that are a tensor"
        )
    wide = outputs.shape[-1] if outputs.ndim > 1 else 1
    own = training.train
    usual = usual_loss(torch.cat([outputs, *_far(still, example)]) if wide == 1 else outputs)
    usual_form = loss_form(usual, outputs.clone().requires_grad_())
    if own is None:
        loss = training.loss or usual
        form = loss_form(loss, outputs.clone().requires_grad_())
        made = Steps("", training.epochs) if training.optimizer is None else steps_of(training.optimizer)
        return Repeatable(
            training, loss, form, usual, usual_form, wide, Steps(made.kind, training.epochs, made.settings)
        )
    rows: list[Order] = [[list(range(len(example)))]]
    seen: list[Steps] = []

    def call(targets: Tensor) -> None:
        with watching() as watched, torch.random.fork_rng(devices=[]):
            own.run(copy.deepcopy(network), example, targets, rows)
        seen[:] = watched

    try:
        form = fitting_form(
            call, outputs, None if training.loss is None else training.loss.numbers, f"--train: {own.name}"
        )
    except RequestError as error:
        raise RequestError(plain(str(error), 400)) from None
    steps = Steps(seen[-1].kind, len(seen), seen[-1].settings) if seen else Steps("unknown")
    return Repeatable(training, training.loss, form, usual, usual_form, wide, steps)


def _far(network: nn.Module, example: Tensor) -> list[Tensor]:
    """Outputs on the example enlarged, either way: chances stay between 0 and 1, logits that were there by luck do not.

    None where the example is of numbers that cannot be enlarged, such as positions in a table of embeddings.
    """
    if not example.is_floating_point():
        return []
    with torch.no_grad():
        return [network(times * example) for times in (-FAR, FAR)]


def quietly(call: Callable[[], None]) -> str:
    """Run an app's code without its warnings; the kind of error that it raised, empty where it did not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except Exception as error:  # the app's own code may raise anything
        return type(error).__name__
    return ""
