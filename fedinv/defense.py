"""What a defense is: it may change how a client trains, what it sends, and it says what privacy that costs."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

Update = dict[str, Tensor]
"""LOCAL MINUS GLOBAL by parameter name: float32, or int64 ring elements after secure aggregation's masking."""

State = MutableMapping[str, str]
"""What a client remembers from round to round, kept in Flower's node state."""


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
    state: State


LocalTraining = Callable[[Job], Update]


@dataclass(frozen=True)
class Sending:
    """What a defense may know of the message that it protects."""

    client: int
    round: int
    cohort: tuple[int, ...]
    """All clients of this round, this one among them."""
    records: int
    """The number of examples that travels in the clear beside the update."""
    seed: int
    rng: np.random.Generator


@dataclass(frozen=True)
class PrivacyEvent:
    """A mechanism's charge to the ledger: Gaussian noise, Poisson-sampled, composed over steps."""

    noise_multiplier: float
    """Noise's standard deviation over the clipping norm; 0 is no privacy at all."""
    sampling_rate: float
    steps: int
    delta: float
    unit: Literal["example", "client"]
    neighbors: Literal["add-or-remove-one", "replace-one"]
    mechanism: str


class Defense(BaseModel):
    """Base of a defense: a frozen model whose fields are the scenario's keys; each hook changes nothing by default.

    A built-in defense is a file in clients/defenses/ named after its kind; others come by the entry point group
    ``fedinv.defenses``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    sampling: ClassVar[Literal["shuffle", "poisson"]] = "shuffle"
    """How the defense needs batches to be drawn."""
    per_record: ClassVar[bool] = False
    """Whether it needs each record's own gradient."""
    secure_aggregation: ClassVar[bool] = False
    """Whether the server can only use the sum over the cohort."""

    def wrap_training(self, training: LocalTraining) -> LocalTraining:
        """Return the training that runs instead."""
        return training

    def protect(self, update: Update, sending: Sending) -> Update:
        """Return what is sent instead of the update."""
        return update

    def privacy_events(self, state: State, rounds: int) -> tuple[PrivacyEvent, ...]:
        """Everything charged to a client that took part in so many rounds; empty where nothing is claimed."""
        return ()
