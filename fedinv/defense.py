"""What a defense is: it may change how a client trains, what it sends, and it says what privacy that costs."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from flwr.app import Context, Message
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fedinv.federation.training import Batch, Clipping, Job, LocalTraining, Masks, Participation, Update
from fedinv.privacy.events import PrivacyEvent

__all__ = [
    "Batch",
    "CallNext",
    "Carrying",
    "Clipping",
    "Defense",
    "Job",
    "LocalTraining",
    "Masks",
    "Participation",
    "PrivacyEvent",
    "Sending",
    "Update",
]


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
    weight: float = 1.0
    """What the update counts in the cohort's mean: its records, or 1 where every client counts alike."""
    taken: Participation = field(default_factory=Participation)
    memory: MutableMapping[str, Tensor] = field(default_factory=dict)
    """What this defense keeps of this client from round to round."""


@dataclass(frozen=True)
class Carrying:
    """What a defense that takes several messages may know of a round."""

    taken: Participation
    rng: np.random.Generator
    """The same for all messages of a client's round; no source of secrets."""


CallNext = Callable[[Message, Context], Message]


class Defense(BaseModel):
    """Base of a defense: a frozen model whose fields are the scenario's keys; each hook changes nothing by default.

    A built-in defense is a file in clients/defenses/ named after its kind; others come by the entry point group
    ``fedinv.defenses``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """Selects the defense, and with it the keys that the table may have."""
    sampling: ClassVar[Literal["shuffle", "poisson"]] = "shuffle"
    """How the defense needs batches to be drawn."""
    per_record: ClassVar[bool] = False
    """Whether it needs each record's own gradient."""
    mixes_records: ClassVar[bool] = False
    """Whether it makes one training example of several records, so that no record has a gradient of its own."""
    no_own_gradients: ClassVar[str | None] = None
    """Why records' gradients cannot be clipped one by one beside it; None where they can."""
    compresses: ClassVar[bool] = False
    """Whether it leaves so many zeros, or so few levels, that the update should travel in fewer bytes."""
    secure_aggregation: ClassVar[bool] = False
    """Whether the server can only use the sum over the cohort."""
    for_sum: ClassVar[bool] = False
    """Whether its guarantee is one for the sum alone, so that secure aggregation must follow at once."""
    by_server: ClassVar[bool] = False
    """Whether it is the server that carries it out, having seen each client's update."""
    one_weight: ClassVar[bool] = False
    """Whether every client must count alike in the mean, whatever it holds."""
    after_noise: ClassVar[str | None] = None
    """Why it makes no sense on an update with noise in it; None where it does."""
    in_clear: ClassVar[str | None] = None
    """What travels in the clear beside what it protects."""

    def wrap_network(self, network: nn.Sequential, rng: np.random.Generator) -> nn.Sequential:
        """Return the network that is trained instead, its parameters of the same names."""
        return network

    def augment(self, batch: Batch, network: nn.Sequential, rng: np.random.Generator) -> Batch:
        """Return the batch that a local step uses instead."""
        return batch

    def wrap_training(self, training: LocalTraining) -> LocalTraining:
        """Return the training that runs instead."""
        return training

    def masks(self, rng: np.random.Generator) -> Masks | None:
        """What `wrap_network` does, where that is to scale hidden units: then clients can be trained as one."""
        return None

    def clipping(self, taken: Participation) -> Clipping | None:
        """What `wrap_training` does, where that is to clip and noise gradients: then clients can be trained as one."""
        return None

    def protect(self, update: Update, sending: Sending) -> Update:
        """Return what is sent instead of the update."""
        return update

    def carry(self, message: Message, context: Context, call_next: CallNext, carrying: Carrying) -> Message:
        """Answer one message of a round; a protocol of several messages trains (`call_next`) in one of them."""
        return call_next(message, context)

    def misfit(self, cohort: int) -> str | None:
        """Why the defense cannot work with so many clients in a round; None where it can."""
        return None

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """What one round is charged to the client's ledger; empty where nothing is claimed."""
        return ()

    def known(self, taken: Participation) -> dict[str, Any]:
        """The parameters in force, as an attacker who knows of the defense knows them."""
        return self.model_dump()
