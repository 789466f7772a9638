"""The updates that a folder holds, a recording's or a run's, with the network and the form of its records."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedinv.attack import Exchange
from fedinv.errors import RequestError
from fedinv.federation.training import Training as LocalTraining
from fedinv.recording import folder as recordings
from fedinv.runs.own_apps.targets import Given, Target, how_trained, targets
from fedinv.runs.own_records.files import Layout
from fedinv.scenario.reading import read
from fedinv.storage import files, observations
from fedinv.storage.run_folder import RunFolder
from fedinv.task.foreign.layers import MADE_UP, made_up
from fedinv.task.foreign.training.training import Repeatable, fit, read_training
from fedinv.task.models import build
from fedinv.task.optimizers import SGD
from fedinv.task.schema import Schema


@dataclass(frozen=True)
class Updates:
    """What a folder holds."""

    network: nn.Module
    """The network, at any weights."""
    example: Tensor
    """A batch of its inputs, made up or not."""
    targets: tuple[Target, ...]
    """Updates in the order recorded."""
    skipped: tuple[str, ...]
    """A line for each update or part of the folder that cannot be used."""
    layout: Layout
    """The form in which the network takes records."""
    how: Repeatable | None = None
    """How clients train; None where nothing is known of it."""


def of_recording(folder: Path, given: Given) -> Updates:
    """Updates of a recording. Raises RequestError where it cannot be read, or no made-up records fit the network."""
    found, skipped = targets(recordings.read(folder))
    example = made_up(given.network) if given.example is None else given.example
    layout = Layout(tuple(example.shape[1:]), example.dtype)
    return Updates(given.network, example, tuple(found), tuple(skipped), layout, how_trained(given))


def of_run(folder: Path) -> Updates:
    """Updates that a run's server watched. Raises RequestError where it is no run, RunError where it is damaged."""
    if not RunFolder(folder).scenario.is_file():
        raise RequestError(f"{folder}: is neither a recording, as fedinv record makes, nor a run of fedinv's")
    scenario = read(str(folder))
    schema = files.read_model(Schema, RunFolder(folder).schema)
    network = build(scenario.model.fitted(schema), schema.shape, schema.outputs, scenario.seed)
    found = [_target(one.last, one.clients) for one in observations.read(RunFolder(folder).observations)]
    example = schema.draw(MADE_UP, np.random.default_rng(0)).reshape(MADE_UP, *schema.shape)
    how = _decaying(scenario.local_training(1), network, example)
    return Updates(network, example, tuple(found), (), Layout(schema.shape, schema=schema), how)


def _decaying(training: LocalTraining, network: nn.Module, example: Tensor) -> Repeatable | None:
    """A run's local training where it is plain SGD with weight decay, which is to be taken out; None elsewhere."""
    if not training.weight_decay or training.optimizer != SGD:
        return None

    def make(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr=training.lr, momentum=training.momentum, weight_decay=training.weight_decay
        )

    extras = {"epochs": training.epochs, "batch": training.batch_size}
    return fit(read_training(optimizer=make, extras=extras), network, example)


def pick(updates: Updates, update: int | None, alone: bool) -> list[int]:
    """Places of the updates to look at: all, or the one asked for.

    Raises RequestError where there is no such update, or where only a single one makes sense and none is named.
    """
    count = len(updates.targets)
    if update is not None:
        if not 0 <= update < count:
            why = f"; {updates.skipped[0]}" if updates.skipped else ""
            held = "is 1 update" if count == 1 else f"are {count} updates"
            raise RequestError(f"--update: there {held}, and no number {update}{why}")
        return [update]
    if alone and count > 1:
        raise RequestError(
            f"--members: records are behind some updates only: name one of the {count} by --update, counted from 0"
        )
    return list(range(count))


def _target(exchange: Exchange, clients: Sequence[int]) -> Target:
    return Target(exchange, clients[0], exchange.records)
