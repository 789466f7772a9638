"""Canaries: records, or whole updates, of which a coin decides whether they are there. For audits alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedinv.data.batches import Rows
from fedinv.federation.streams import stream, torch_stream
from fedinv.federation.training import Update

LENGTH = 4.0
"""Standard deviations of a canary record's inputs: gradients long enough to be cut, and unlike anyone's."""
UNUSUAL = 10.0
"""The first input of a canary that makes poisoned weights overflow."""


@dataclass(frozen=True)
class Planted:
    """A client's records, every second one a canary in the place of one of its own."""

    inputs: Tensor
    labels: Tensor
    canaries: NDArray[np.int64]
    """Their places among the records."""
    present: NDArray[np.bool_]
    """Which of them are there; one that is not is never drawn."""

    def drawn(self, batches: tuple[Rows, ...]) -> tuple[Rows, ...]:
        """Batches without the canaries that are not there: their number, and so the sampling rate, stays."""
        absent = self.canaries[~self.present]
        return tuple(batch[~np.isin(batch, absent)] for batch in batches)


def plant(
    inputs: Tensor, labels: Tensor, network: nn.Sequential, seed: int, client: int, unusual: bool = False
) -> Planted:
    """Put canaries in the place of every second record, of the label that the network holds least likely.

    The network is that of the round, so that a canary is never learned; composition allows for records chosen so. With
    `unusual` there is one canary alone, whose first input is far from anyone's. A pure function of its arguments: the
    client trains on them, and the auditor knows them and their coins.
    """
    rng = stream(seed, "canaries", client)
    where = np.arange(0, 1 if unusual else len(inputs), 2)
    drawn = LENGTH * torch.randn(len(where), inputs.shape[1], generator=torch_stream(rng))
    if unusual:
        drawn = inputs[where].clone()
        drawn[:, 0] = UNUSUAL
    inputs, labels = inputs.clone(), labels.clone()
    inputs[where] = drawn
    if not labels.is_floating_point():
        with torch.no_grad():
            labels[where] = network(drawn).argmin(1)
    return Planted(inputs, labels, where, rng.random(len(where)) < 0.5)


def planted_update(update: Update, seed: int, client: int) -> Update:
    """The update of a client that is itself a canary: a long one along its direction, or against it."""
    sign = 1.0 if toss(seed, client) else -1.0
    return {name: sign * 1e3 * part for name, part in direction(update, seed, client).items()}


def toss(seed: int, client: int) -> bool:
    """A canary client's coin."""
    return bool(stream(seed, "canary-coin", client).random() < 0.5)


def direction(like: Update, seed: int, client: int) -> Update:
    """A canary client's direction, of length 1, the same in all rounds."""
    generator = torch_stream(stream(seed, "canary", client))
    drawn = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in like.items()}
    length = float(sum(part.double().square().sum() for part in drawn.values()) ** 0.5)
    return {name: part / length for name, part in drawn.items()}
