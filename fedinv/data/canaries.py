"""Canaries, for audits alone: records or clients' updates that are present or absent by the toss of a coin."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedinv.data.batches import Rows
from fedinv.federation.streams import stream, torch_stream
from fedinv.federation.training import Update

LENGTH = 4.0
"""Standard deviation of a canary record's inputs: its gradient is long enough to be clipped and resembles no other."""
UNUSUAL = 10.0
"""First input of the canary at which a malicious server's weights overflow, standard deviations."""


@dataclass(frozen=True)
class Planted:
    """A client's records, with canaries in the place of some of them."""

    inputs: Tensor
    """Encoded records, float32 (n, width)."""
    labels: Tensor
    """Labels: int64 classes (n,), or standardized numbers, float32 (n,)."""
    canaries: NDArray[np.int64]
    """Positions of the canaries among the records, int64 (m,)."""
    present: NDArray[np.bool_]
    """Coin of each canary (m,); one that is absent is removed from every batch."""

    def drawn(self, batches: tuple[Rows, ...]) -> tuple[Rows, ...]:
        """Remove absent canaries from the batches; the number of batches and the sampling rate do not change."""
        absent = self.canaries[~self.present]
        return tuple(batch[~np.isin(batch, absent)] for batch in batches)


def plant(
    inputs: Tensor, labels: Tensor, network: nn.Sequential, seed: int, client: int, unusual: bool = False
) -> Planted:
    """Replace every second record by a canary, labeled with the class that the network finds least likely.

    The network is this round's model, so that labels are chosen anew each round and the model cannot have learned
    them; adaptive composition of differential privacy allows for records chosen so. With `unusual` there is one canary
    alone, whose first input is UNUSUAL. Pure in its arguments: the client trains on the canaries, and the auditor
    recomputes them and their coins.
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


def planted_update(update: Mapping[str, Tensor], seed: int, client: int) -> Update:
    """Update of a client that is itself a canary: its direction times 1000, or times -1000, by its coin."""
    sign = 1.0 if toss(seed, client) else -1.0
    return {name: sign * 1e3 * part for name, part in direction(update, seed, client).items()}


def toss(seed: int, client: int) -> bool:
    """Toss a canary client's coin, the same in all rounds."""
    return bool(stream(seed, "canary-coin", client).random() < 0.5)


def direction(like: Mapping[str, Tensor], seed: int, client: int) -> Update:
    """Direction of a canary client, shaped like an update and of length 1, the same in all rounds."""
    generator = torch_stream(stream(seed, "canary", client))
    drawn = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in like.items()}
    length = float(sum(part.double().square().sum() for part in drawn.values()) ** 0.5)
    return {name: part / length for name, part in drawn.items()}
