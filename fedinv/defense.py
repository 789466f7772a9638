"""What a defense is: it may change how a client trains and what it sends, and states the privacy loss of a round."""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from flwr.app import Context, Message
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fedinv.federation.training import Batch, Clipping, Job, LocalTraining, Masks, Participation, Update
from fedinv.privacy.events import PrivacyEvent, RecordExposure

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
    "RecordExposure",
    "Release",
    "Sending",
    "Trial",
    "Update",
]


@dataclass(frozen=True)
class Sending:
    """What a defense may know of the update that it protects."""

    client: int
    """Number of the client, from 0."""
    round: int
    """Number of the round, from 1."""
    cohort: tuple[int, ...]
    """Numbers of all clients of this round, this one among them."""
    records: int
    """Number of examples that is sent in the clear beside the update."""
    seed: int
    """Seed of the run's secrets, the same for the whole cohort: the server is not given it."""
    rng: np.random.Generator
    """Source of randomness for this client, round and defense."""
    weight: float = 1.0
    """Weight of the update in the cohort's mean: its records, or 1 where every client has the same weight."""
    taken: Participation = field(default_factory=Participation)
    """The client's participation: its records, batches and steps, and the federation's rounds and clients."""
    memory: MutableMapping[str, Tensor] = field(default_factory=dict)
    """Tensors that this defense keeps for this client from round to round; changes are stored."""


@dataclass(frozen=True)
class Carrying:
    """What a defense whose protocol takes several messages a round may know of that round."""

    taken: Participation
    """The client's participation: its records, batches and steps, and the federation's rounds and clients."""
    rng: np.random.Generator
    """Random stream that is the same for all messages of a client's round; no source of secrets."""


@dataclass(frozen=True)
class Trial:
    """A setting of a defense that studies try where their user names none."""

    order: int
    """Place among the trials of all defenses, smallest first; those of one place are sorted by kind."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keys that differ from the defense's defaults."""
    words: str | None = None
    """Name of the trial in an assessment, such as "DP-SGD, noise 1"; None: only comparisons try it."""


CallNext = Callable[[Message, Context], Message]
"""Function that trains on a message and returns the reply with the update."""


@dataclass(frozen=True)
class Release:
    """What a defense promises of one client's protected update, in units of weights."""

    norm: float
    """Most that the update's Euclidean norm over all parameters can be before noise is added."""
    noise: float
    """Standard deviation of the Gaussian noise added to each entry; 0 where none is."""


class Defense(BaseModel):
    """Base of a defense: a frozen model whose fields are the keys of a scenario's [[defenses]], and hooks.

    Each hook changes nothing by default. A built-in defense is a file in clients/defenses/ named after its kind; others
    come by the entry point group ``fedinv.defenses``. The docstring below a field is the key's description wherever
    fedinv shows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    """Name of the defense, which selects it in a scenario and on the command line."""
    sampling: ClassVar[Literal["shuffle", "poisson"]] = "shuffle"
    """How batches must be drawn while the defense is on: "shuffle", each record once an epoch, or "poisson"."""
    per_record: ClassVar[bool] = False
    """True: it clips each record's own gradient; defenses that leave records no gradient of their own are refused."""
    mixes_records: ClassVar[bool] = False
    """True: it makes one training example of several records, so that no record has a gradient of its own."""
    no_own_gradients: ClassVar[str | None] = None
    """Refusal shown when this defense is listed with one that clips each record's gradient; None: both are fine."""
    compresses: ClassVar[bool] = False
    """True: it leaves so many zeros, or so few levels, that the update is sent in a compressed encoding."""
    secure_aggregation: ClassVar[bool] = False
    """True: the server can use the sum over the cohort only; it must be the last defense listed."""
    for_sum: ClassVar[bool] = False
    """True: its guarantee holds for the sum alone, so that secure aggregation must be listed right after it."""
    by_server: ClassVar[bool] = False
    """True: the server carries it out, after it has seen each client's update; no guarantee against the server."""
    one_weight: ClassVar[bool] = False
    """True: every client has the same weight in the mean, whatever number of records it holds."""
    after_noise: ClassVar[str | None] = None
    """Refusal shown when this defense is listed after one that adds noise; None: any order is fine."""
    averaged_only: ClassVar[str | None] = None
    """Refusal shown where the server takes another step than the mean (federation.strategy); None: any is fine."""
    neutral: ClassVar[Mapping[str, Any] | None] = None
    """Settings under which a federation learns what it learns without the defense; None where there are none.

    The contract test trains with them and compares, so that a defense changes nothing beyond what it is asked for.
    """
    never_neutral: ClassVar[str | None] = None
    """Why no settings make the defense do nothing; needed where `neutral` is None."""
    unseeded: ClassVar[str | None] = None
    """Why what is sent is no function of the scenario's seed; None where it is. The model must be one all the same."""
    undercharged: ClassVar[str | None] = None
    """Why the defense adds another noise than its `privacy_events` are charged for; None where it adds just that."""
    in_clear: ClassVar[str | None] = None
    """What is sent in the clear beside the protected update, for the report; None: nothing worth a note."""
    can_be_unmasked: ClassVar[bool] = False
    """True: a malicious server can unmask each update by messages that the protocol does not check (server.unmask)."""
    trials: ClassVar[tuple[Trial, ...]] = ()
    """Settings with which comparisons and assessments try it where no defenses are named; empty: they do not."""

    def wrap_network(self, network: nn.Sequential, rng: np.random.Generator) -> nn.Sequential:
        """Return the network to train in place of `network`; its parameters must have the same names."""
        return network

    def augment(self, batch: Batch, network: nn.Sequential, rng: np.random.Generator) -> Batch:
        """Return the batch that a local step trains on in place of `batch`."""
        return batch

    def wrap_training(self, training: LocalTraining) -> LocalTraining:
        """Return the function that trains in place of `training`."""
        return training

    def masks(self, rng: np.random.Generator) -> Masks | None:
        """Return the factors of hidden units that have the effect of `wrap_network`, for clients trained as one stack.

        None: there are none; a defense that overrides `wrap_network` then has its clients trained one by one.
        """
        return None

    def clipping(self, taken: Participation) -> Clipping | None:
        """Return the clipping and noise that have the effect of `wrap_training`, for stacked clients and for audits.

        None: there are none; clients are then trained one by one, and a guarantee for examples cannot be audited.
        """
        return None

    def protect(self, update: Update, sending: Sending) -> Update:
        """Return what is sent in place of the update; `update` itself is not changed."""
        return update

    def carry(self, message: Message, context: Context, call_next: CallNext, carrying: Carrying) -> Message:
        """Answer one message of a round; a protocol of several messages trains (`call_next`) in one of them."""
        return call_next(message, context)

    def misfit(self, cohort: int) -> str | None:
        """Return why the defense cannot work with `cohort` clients in a round; None where it can."""
        return None

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """Return what one round charges to the client's ledger; empty where the defense claims nothing."""
        return ()

    def release(self, taken: Participation) -> Release | None:
        """The clipping norm and the noise of what `protect` returns; None where it neither clips nor adds noise.

        The contract test measures both, and compares them with what `privacy_events` charges.
        """
        return None

    def exposure(self, taken: Participation, rounds: int) -> RecordExposure | None:
        """Return the server's exposure to a record known to be in the last of `rounds` rounds of its client.

        It bounds how well an attacker who knows all other records can identify the record. None: there is no bound.
        """
        return None

    def known(self, taken: Participation) -> dict[str, Any]:
        """Return the parameters in force, with calibrated ones filled in, as an attacker who knows of it has them."""
        return self.model_dump()
