"""What an attack is given, and what it gives back. Nothing here can hold a client's record, label or seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from fedinv.task.models import AnyModel
from fedinv.task.schema import Schema

Weights = Mapping[str, Tensor]
Progress = Callable[[float], None]
"""Called with the share of the work that is done, 0 to 1."""
Asks = Literal["records", "classes", "attribute", "membership", "line-up", "labels", "property"]
"""What an attack sets out to tell."""
Sees = Literal["update", "model"]
"""What an attack looks at: what a client sent, or the trained model."""


@dataclass(frozen=True)
class Exchange:
    """One round between the server and a client (or, under secure aggregation, the sum over several clients)."""

    round: int
    sent: Weights
    """The global model that the server sent, float32 by parameter name."""
    received: Weights
    """The update that came back, LOCAL MINUS GLOBAL, float32 by parameter name, as far as the wire shows it."""
    records: int
    """Number of examples, which travels in the clear."""


@dataclass(frozen=True)
class Observation:
    """What the server saw of one client over the rounds it watched; a claim is about the last of them.

    Of the trained model: all clients, and one exchange in which it is `sent` and nothing is `received`.
    """

    clients: tuple[int, ...]
    """Whose records the update covers: one client, or all who stand behind a sum."""
    exchanges: tuple[Exchange, ...]
    """Oldest first, at least one."""

    @property
    def last(self) -> Exchange:
        """The exchange that is under attack."""
        return self.exchanges[-1]


@dataclass(frozen=True)
class Sample:
    """Records of people, encoded, with their labels."""

    records: Tensor
    """float32 (n, inputs)."""
    labels: Tensor
    """int64 (n,) classes, or float32 (n,) standardized targets."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Question:
    """What the attacker is asked beyond "what were the records". Nothing in it tells the answer."""

    people: Sample | None = None
    """Whom it is asked about: the candidates of a membership test or a line-up, in an order that tells nothing, or the
    people of whom it knows all but one column, whose inputs are 0."""
    column: str | None = None
    """The column that is asked for."""
    options: Tensor | None = None
    """float32 (k, the column's inputs): the values it may have, encoded. Of a property, the one value whose share is
    asked for."""
    others: Sample | None = None
    """The rest of the batch, which an informed attacker knows (line-up)."""


@dataclass(frozen=True)
class Knowledge:
    """What the scenario grants the attacker. None means withheld."""

    model: AnyModel | None = None
    loss: str | None = None
    """cross-entropy or squared-error."""
    schema: Schema | None = None
    algorithm: str | None = None
    lr: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    defenses: tuple[Mapping[str, Any], ...] | None = None
    """The defenses in use with their parameters, as the scenario writes them."""
    auxiliary: Sample | None = None
    """Records of the same population that no client holds."""
    question: Question | None = None
    """What is asked, for an attack that is asked anything."""

    def defense(self, kind: str) -> Mapping[str, Any] | None:
        """The parameters of a defense that the attacker knows to be in use."""
        return next((d for d in self.defenses or () if d["kind"] == kind), None)


@dataclass(frozen=True)
class Claim:
    """What an attack says the client's records were. Fewer records than the client has is a partial recovery."""

    records: Tensor
    """float32 (k, inputs) in the network's encoding; k may be 0."""
    confidence: Tensor
    """float32 (k,): the attack's own probability that the record is right, 0 to 1, found without the truth."""
    labels: Tensor | None = None
    """int64 (k,) classes, or float32 (k,) standardized targets, where the attack infers them."""
    mismatch: float | None = None
    """Relative distance between the update and its re-computation from the claim: 0 explains all, 1 nothing."""
    notes: tuple[str, ...] = ()
    """What a reader should know: why records are missing, which knowledge was lacking."""
    fields: Tensor | None = None
    """float32 (k, columns): the same probability for each column, pixel by pixel for an image, where the attack has
    one."""


@dataclass(frozen=True)
class Answer:
    """What an attack says to the question it was asked."""

    scores: Tensor
    """float32 (targets, options), a higher one is more likely. Attribute: people by options. Membership: (people, 1).
    Line-up: (1, candidates). Labels: (1, classes), counts. Property: (1, 1), the share. Without rows: no answer."""
    notes: tuple[str, ...] = ()
    """What a reader should know: why there is no answer, which knowledge was lacking."""


def unanswered(reason: str) -> Answer:
    """No answer, and why: the guesser then speaks for the attack."""
    return Answer(torch.zeros(0, 0), (f"does not run: {reason}",))


class Attack(BaseModel):
    """Base of an attack: a frozen model whose fields are the scenario's keys, and `run`.

    A built-in attack is a file in server/attacks/ named after its kind; others come by the entry point group
    ``fedinv.attacks``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """Selects the attack, and with it the keys that the table may have."""
    adapts_to: ClassVar[frozenset[str]] = frozenset()
    """Kinds of defense against which the attack has a countermeasure when it is told of them."""
    last_only: ClassVar[bool] = False
    """Whether it is run on a client's last watched round alone, which holds the earlier ones."""

    @property
    def asks(self) -> Asks:
        """What it sets out to tell: records and classes are answered by a Claim, all else by an Answer."""
        return "records"

    @property
    def sees(self) -> Sees:
        """Whether it attacks each update, or the trained model once."""
        return "update"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim | Answer:
        """Attack one observation. Pure: the same arguments give the same claim, and the observation is not changed."""
        raise NotImplementedError
