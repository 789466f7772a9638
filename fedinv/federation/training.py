"""A client's local training as values: its batches, its participation in a round, and its update."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedinv.task.optimizers import CONSTANT, SGD, AnySchedule, LocalDescent, Optimizer

Update = dict[str, Tensor]
"""LOCAL MINUS GLOBAL by parameter name: float32, or int64 fixed-point integers after masking, see `ring`."""


@dataclass(frozen=True)
class Training:
    """A client's local training in one round as the scenario declares it."""

    algorithm: Literal["fedsgd", "fedavg"]
    epochs: int
    batch_size: int
    lr: float
    """Learning rate of the round."""
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer: Optimizer = SGD
    """Optimizer, which begins anew in each round."""
    proximal: float = 0.0
    """Multiple of the distance to the global model that is added to each gradient."""
    schedule: AnySchedule = CONSTANT
    """Schedule of the learning rate over the local steps."""
    class_weights: tuple[float, ...] = ()
    """Weight of each class in the loss; empty: all weigh the same."""

    @property
    def descent(self) -> LocalDescent:
        """How the local steps follow from their gradients."""
        return LocalDescent(self.lr, self.momentum, self.weight_decay, self.optimizer, self.proximal, self.schedule)

    def weights(self) -> Tensor | None:
        """Weight of each class in the loss, float32 (classes,); None where all weigh the same."""
        return torch.tensor(self.class_weights) if self.class_weights else None


@dataclass(frozen=True)
class Participation:
    """A client's participation in one round, as far as privacy depends on it."""

    records: int = 1
    """Records that this client holds."""
    batch_size: int = 1
    """Records of a local step, expected ones under Poisson sampling; at most all that the client holds."""
    divisor: int = 0
    """Number that a step's summed gradients are divided by where that must tell nothing of the records: the scenario's
    batch size, or its limit of records per client if that is less. 0: `batch_size`."""
    steps: int = 1
    """Local steps of the round."""
    rounds: int = 1
    """Rounds of the whole run, each of which the client may take part in."""
    clients: int = 1
    """Clients in the whole federation."""
    cohort: int = 1
    """Clients of this round."""
    heaviest: float | None = None
    """Largest weight of any client in the mean, in records; None where nothing limits it."""


@dataclass(frozen=True)
class Batch:
    """The inputs and targets of one local step."""

    inputs: Tensor
    """Encoded records, float32 (n, width)."""
    targets: Tensor
    """Class probabilities, float32 (n, classes), or standardized numbers, float32 (n,)."""


Augment = Callable[[Batch], Batch]
Masks = Callable[[int, int], Tensor]
"""Draws dropout masks: (records, units) -> factor of each hidden unit for each record, new ones at each call."""


@dataclass(frozen=True)
class Clipping:
    """DP-SGD's treatment of a step's gradients: each record's is clipped, noise is added to their sum."""

    clip: float
    """Norm to which each record's gradient is clipped, in the gradient's unit."""
    noise_multiplier: float
    """Standard deviation of the noise on the sum, as a multiple of `clip`."""
    guard: bool = True
    """True: records whose gradient is not finite are dropped from the sum."""
    divisor: float = 1.0
    """Public number by which the noisy sum is divided."""


@dataclass(frozen=True)
class Job:
    """One client's local training in one round."""

    network: nn.Sequential
    """The global model; `plain_training` trains it in place, stacked training leaves it unchanged."""
    inputs: Tensor
    """The client's records, encoded: float32 (n, width)."""
    labels: Tensor
    """The records' labels: int64 classes (n,), or standardized numbers, float32 (n,)."""
    batches: tuple[NDArray[np.int64], ...]
    """Positions of the records of each local step, in order; a batch may be empty under Poisson sampling."""
    training: Training
    rng: np.random.Generator
    augment: Augment | None = None
    """Change of each batch that the defenses make before it is trained on; None for none."""
    masks: Masks | None = None
    """Dropout masks of the defenses, used by stacked training alone; None for none."""
    clipping: Clipping | None = None
    """Clipping and noise of the defenses, used by stacked training alone; None for none."""
    taken: Participation = Participation()


LocalTraining = Callable[[Job], Update]
