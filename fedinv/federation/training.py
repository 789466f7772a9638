"""A client's local training as values: its batches, its part in a round, and the update that comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Update = dict[str, Tensor]
"""LOCAL MINUS GLOBAL by parameter name: float32, or int64 ring elements after secure aggregation's masking."""


@dataclass(frozen=True)
class Training:
    """Plain stochastic gradient descent as the scenario declares it."""

    algorithm: Literal["fedsgd", "fedavg"]
    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float


@dataclass(frozen=True)
class Participation:
    """A client's part in one round, as far as privacy depends on it."""

    records: int = 1
    """That it holds."""
    batch_size: int = 1
    """Records that a step uses, or is expected to use; never more than it holds."""
    steps: int = 1
    """Local steps."""
    rounds: int = 1
    """That it may be asked to take part in, over the whole run."""
    clients: int = 1
    """There are."""
    cohort: int = 1
    """Clients of this round."""
    heaviest: float | None = None
    """What any client can count at most in the mean, in records; None where nothing limits it."""


@dataclass(frozen=True)
class Batch:
    """What one local step trains on."""

    inputs: Tensor
    """float32 (n, width)."""
    targets: Tensor
    """float32 (n, classes) probabilities, or (n,) standardized targets."""


Augment = Callable[[Batch], Batch]
Masks = Callable[[int, int], Tensor]
"""(records, units) -> factor of each unit of a hidden layer for each record, drawn anew at each call."""


@dataclass(frozen=True)
class Clipping:
    """What dp-sgd does to the gradients of a step: cut each record's to a norm, add noise to their sum."""

    clip: float
    noise_multiplier: float
    guard: bool = True
    """Whether records whose gradient is not finite are dropped."""


@dataclass(frozen=True)
class Job:
    """One client's local training in one round."""

    network: nn.Sequential
    """Holds the global weights on entry; training may change it."""
    inputs: Tensor
    """float32 (n, width): the client's records, encoded."""
    labels: Tensor
    """int64 (n,) classes, or float32 (n,) standardized targets."""
    batches: tuple[NDArray[np.int64], ...]
    """Which records each local step uses, in order; a batch may be empty under Poisson sampling."""
    training: Training
    rng: np.random.Generator
    augment: Augment | None = None
    """What the defenses do to each batch before it is trained on; None where they do nothing."""
    masks: Masks | None = None
    """What they do to the hidden units, where the client is trained along with others."""
    clipping: Clipping | None = None
    """What they do to the records' gradients, likewise."""
    taken: Participation = Participation()


LocalTraining = Callable[[Job], Update]
