"""The types of an attack's input and output. None of them holds a client's record or label, or the scenario's seed."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.models import AnyModel
from fedinv.task.optimizers import CONSTANT, SGD, AnySchedule, LocalDescent, Optimizer
from fedinv.task.schema import Schema

Weights = Mapping[str, Tensor]
"""Tensors by parameter name, in the network's order."""
Progress = Callable[[float], None]
"""Function that an attack calls with the share of its work that is done, 0 to 1."""
Watch = Callable[[float, Tensor], None]
"""Function that a search calls with the share of its steps that are done, 0 to 1, and the records that it holds then,
encoded, float32 (n, inputs). They are relaxed: a category may still be shared out among several."""
Asks = Literal["records", "classes", "attribute", "membership", "line-up", "labels", "property"]
"""Questions that an attack can answer."""
Sees = Literal["update", "model"]
"""What an attack is run on: each update of a watched client, or the trained model once."""


class ReadOut(Protocol):
    """What a malicious server knows how to read off updates of the weights that it made."""

    @property
    def kind(self) -> str:
        """Kind of the deviation."""
        ...

    def claim(self, seen: "Observation", knows: "Knowledge", rng: np.random.Generator, progress: Progress) -> "Claim":
        """The records that it reads off an observation."""
        ...


@dataclass(frozen=True)
class Exchange:
    """One round between the server and a client (or, under secure aggregation, the sum over several clients)."""

    round: int
    """Number of the round, from 1."""
    sent: Weights
    """The global model that the server sent, float32 by parameter name."""
    received: Weights
    """The update that came back, LOCAL MINUS GLOBAL, float32 by parameter name, as it crossed the wire: clipped,
    noised or compressed where a defense did so; empty for a trained model."""
    records: int
    """Number of examples that the client reports to have trained on, sent in the clear; the total for a sum."""
    sent_to: Mapping[int, Weights] = field(default_factory=dict)
    """Weights that the clients of a sum were sent, by client, where a malicious server sent them different ones; `sent`
    is then the global model."""


@dataclass(frozen=True)
class Observation:
    """What the server saw of one client over the rounds it watched; a claim is about the last of them.

    An attack on the trained model gets one observation: `clients` are all clients, and its one exchange has the
    trained model in `sent` and nothing in `received`.
    """

    clients: tuple[int, ...]
    """Numbers of the clients whose records the update covers: one, or every client that a sum adds up."""
    exchanges: tuple[Exchange, ...]
    """The watched rounds up to the one under attack, oldest first, at least one."""

    @property
    def last(self) -> Exchange:
        """The exchange of the latest round, which is under attack."""
        return self.exchanges[-1]


@dataclass(frozen=True)
class Sample:
    """n records of people, encoded, with their labels."""

    records: Tensor
    """Encoded records, float32 (n, inputs)."""
    labels: Tensor
    """Labels: int64 (n,) classes, or float32 (n,) standardized targets."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Question:
    """What the attacker is asked beyond "what were the records". Nothing in it reveals the answer."""

    people: Sample | None = None
    """People who are asked about: the candidates of a membership test or a line-up, in random order; or, for an
    attribute, the people whose other columns are known, with 0 at the inputs of the unknown column."""
    column: str | None = None
    """Name of the column that is asked for; None where the question is not about a column."""
    options: Tensor | None = None
    """Values that the column may have, encoded, float32 (k, the column's inputs); for a property, the one value whose
    share is asked for (k = 1)."""
    others: Sample | None = None
    """All other records of the batch, which the informed attacker of a line-up knows."""


@dataclass(frozen=True)
class Knowledge:
    """What the scenario lets the attacker know. None means withheld."""

    model: AnyModel | None = None
    """Architecture of the network."""
    loss: str | None = None
    """Loss that clients minimize: "cross-entropy" or "squared-error"."""
    schema: Schema | None = None
    """Data dictionary: names, ranges, categories and published marginals of the columns, no record."""
    algorithm: str | None = None
    """How a client trains in a round: "fedsgd", one step on one batch, or "fedavg"."""
    lr: float | None = None
    """Learning rate of local training."""
    batch_size: int | None = None
    """Records that one local step uses."""
    epochs: int | None = None
    """Passes over a client's records in a round of fedavg."""
    momentum: float | None = None
    """Momentum of local training, 0 to 1; known wherever the learning rate is."""
    weight_decay: float | None = None
    """Weight decay of local training; known wherever the learning rate is."""
    defenses: tuple[Mapping[str, Any], ...] | None = None
    """Defenses in use with the parameters in force, as `Defense.known` gives them; None for a static attack."""
    auxiliary: Sample | None = None
    """Records of the same population that no client holds."""
    question: Question | None = None
    """The question to answer; None for an attack that claims records or classes."""
    optimizer: Optimizer | None = None
    """Optimizer of local training with its settings; known wherever the learning rate is, and SGD where it is not."""
    proximal: float | None = None
    """FedProx's mu; known wherever the learning rate is."""
    schedule: AnySchedule | None = None
    """Schedule of the learning rate over the local steps of a round; known wherever the learning rate is."""
    round_lrs: tuple[float, ...] | None = None
    """Learning rate of each round from the first, None where they do not differ; `lr` is that of the attacked round."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in the loss; known wherever the loss is; None where all weigh the same."""
    deviations: tuple[ReadOut, ...] = ()
    """What the server itself did in place of the protocol, with how it is read; none where it followed it."""

    @property
    def descent(self) -> LocalDescent:
        """How a client's local steps follow from their gradients; what is withheld is taken for plain SGD's.

        Raises ValueError where the learning rate is withheld.
        """
        if self.lr is None:
            raise ValueError("the learning rate is withheld")
        return LocalDescent(
            self.lr,
            self.momentum or 0.0,
            self.weight_decay or 0.0,
            self.optimizer or SGD,
            self.proximal or 0.0,
            self.schedule or CONSTANT,
        )

    @property
    def adaptive(self) -> str | None:
        """Why an update is no sum of gradients, as a note of an attack that needs one; None where it may be one."""
        if self.optimizer is None or self.optimizer.linear:
            return None
        return (
            f"clients train with {self.optimizer.kind}, which scales each entry of a step by itself: the update is no "
            "sum of gradients, and has no row space of records"
        )

    def at(self, round_: int) -> "Knowledge":
        """The same knowledge of another round, whose learning rate a schedule may have changed."""
        lrs = self.round_lrs or ()
        return replace(self, lr=lrs[round_ - 1]) if 0 < round_ <= len(lrs) else self

    def defense(self, kind: str) -> Mapping[str, Any] | None:
        """The parameters of the first defense of this kind that the attacker knows of; None where there is none."""
        return next((d for d in self.defenses or () if d["kind"] == kind), None)


EXPLAINS = 0.1
"""Mismatch up to which a claim explains an update, whatever the training, and all its records count as verified.

After a single step the true records give the update to 1e-7; records drawn from the published marginals, with the true
labels, stay above 0.17, and claims of which half the records are true above 0.108 (hospital and bank, batches of 4 to
128; `python -m benchmarks verified`)."""
EXPLAINS_SIGNALS = 0.02
"""The same of images and signals, whose numbers may all be a little wrong.

Of heartbeats that are matched to 38 dB 0.04 to 0.11 is left of the update, of those to 50 dB or more 0.006 to 0.015
(batches of 1, 4 and 8, `python -m benchmarks signals`)."""


@dataclass(frozen=True)
class Claim:
    """What an attack says the client's records were. Fewer records than the client has is a partial recovery."""

    records: Tensor
    """Claimed records in the network's encoding, float32 (k, inputs); k may be 0."""
    confidence: Tensor
    """The attack's own probability that each record is right, 0 to 1, float32 (k,), found without the truth."""
    labels: Tensor | None = None
    """Claimed labels: int64 (k,) classes, or float32 (k,) standardized targets; None where they are not inferred."""
    mismatch: float | None = None
    """Relative distance between the update and the one recomputed from the claim: 0 explains all of it, 1 nothing;
    None where it was not recomputed."""
    notes: tuple[str, ...] = ()
    """Remarks for the report: why records are missing, which knowledge was lacking."""
    fields: Tensor | None = None
    """The attack's own probability that each field is right, 0 to 1, float32 (k, columns), for an image (k, pixels);
    None where it has none."""
    checked: Tensor | None = None
    """Which records passed a check of the attack's own that needs no truth and that wrong records fail, bool (k,); None
    where it has none."""

    bound: float = EXPLAINS
    """Mismatch, 0 to 1, up to which the claim explains the update; smaller for images and signals."""

    unfinished: tuple[str, ...] = ()
    """Limits of the attack's own that ended it before it was done, in words; beyond them it may find more."""

    owners: Tensor | None = None
    """Client that each record of a sum is said to belong to, int64 (k,); None where the attack cannot tell."""

    @property
    def verified(self) -> Tensor:
        """Which records the attacker itself can tell to be right, bool (k,).

        All of a claim whose recomputed update explains the one that was seen, see `bound`; of others, as a few right
        records of many cannot explain an update, those that passed the attack's own check.
        """
        if self.mismatch is not None and self.mismatch <= self.bound:
            return torch.ones(len(self.records), dtype=torch.bool)
        return torch.zeros(len(self.records), dtype=torch.bool) if self.checked is None else self.checked


@dataclass(frozen=True)
class Answer:
    """What an attack answers to the question it was asked."""

    scores: Tensor
    """Scores, float32 (targets, options), higher is more likely. Attribute: (people, options). Membership: (people, 1).
    Line-up: (1, candidates). Labels: (1, classes), counts. Property: (1, 1), the share, 0 to 1. No rows: no answer."""
    notes: tuple[str, ...] = ()
    """Remarks for the report: why there is no answer, which knowledge was lacking."""


@dataclass(frozen=True)
class Reading:
    """What an attack can do with one layer of a network and one update of it."""

    applies: bool
    """Whether the attack can be run on it; that it succeeds is not said."""
    says: str
    """Data that the attack would read, or the reason why it does not apply."""
    likely: bool = True
    """Whether the attack mostly succeeds where it applies; others are tried before one that does not."""


class Limit(Exception):  # noqa: N818 - an end that the attack's settings set, not an error
    """A limit of an attack's own, as of time or of records, that ends it before it is done, in words."""


def nothing(reason: str | Exception, width: int = 1) -> Claim:
    """A claim of no records, of `width` inputs each, with a note on the reason; unfinished where that is a Limit."""
    unfinished = (str(reason),) if isinstance(reason, Limit) else ()
    return Claim(torch.zeros(0, width), torch.zeros(0), notes=(f"nothing claimed: {reason}",), unfinished=unfinished)


def unanswered(reason: str) -> Answer:
    """An answer without scores that notes the reason; it is judged as the guess without the update."""
    return Answer(torch.zeros(0, 0), (f"does not run: {reason}",))


class Attack(BaseModel):
    """Base of an attack: a frozen model whose fields are the keys of a scenario's [[attacks]], and `run`.

    A built-in attack is a file in server/attacks/ named after its kind; others come by the entry point group
    ``fedinv.attacks``. The docstring below a field is the key's description wherever fedinv shows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """Name of the attack, which selects it in a scenario and on the command line."""
    adapts_to: ClassVar[frozenset[str]] = frozenset()
    """Kinds of defense that the attack has a countermeasure to: it is run a second time, knowing of them."""
    last_only: ClassVar[bool] = False
    """True: run once per client, on the observation of its last watched round; earlier rounds are in
    `seen.exchanges[:-1]`. False: run once per watched round."""
    reads_deviations: ClassVar[bool] = False
    """True: it reads updates of weights that a malicious server made, in the way that they were made for."""
    assessed_with: ClassVar[Mapping[str, Any] | None] = None
    """Settings, quick ones, with which comparisons and assessments run it unasked on the models that it suits; None:
    only where it is named, or all attacks are asked for."""
    known_as: ClassVar[Mapping[str, str]] = {}
    """Names by which papers know the attack or a setting of it, in small letters with dashes, and the attack's short
    form for each, such as "my-attack:preset=theirs": what is said to somebody who asks for that name."""
    tried_in_turn: ClassVar[int | None] = None
    """Place among the attacks that `fedinv.invert` tries in turn, smallest first; None: only where it is named."""

    searches: ClassVar[bool] = False
    """True: it comes to its records step by step, and `watched` shows them on the way."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the attack can be run on an update of this model; by default on any that reads numbers, no texts."""
        return not model.texts

    @classmethod
    def reads(cls, update: LayerUpdate, following: LayerUpdate | None) -> Reading | None:
        """Whether the attack can be run on a layer of any network; None for one that does not look at single layers.

        `following` is the update of the linear layer that is fed by this one, None where there is none.
        """
        return None

    def answers(self, kind: str) -> bool:
        """Whether the attack, with its settings, has a countermeasure to defenses of this kind; see `adapts_to`."""
        return kind in self.adapts_to

    def beside(self, others: Collection[str]) -> "Attack":
        """The attack as it is run beside attacks of these kinds: without a part that one of them covers already."""
        return self

    @property
    def asks(self) -> Asks:
        """The question it answers: "records" and "classes" are answered by a Claim, all others by an Answer."""
        return "records"

    @property
    def sees(self) -> Sees:
        """Attacked data: "update", each watched client's update, or "model", the trained model once."""
        return "update"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim | Answer:
        """Attack one observation, reporting the share of the work done to `progress`.

        Pure: the same arguments give the same claim, and the observation is not changed. `rng` is the only source of
        randomness.
        """
        raise NotImplementedError

    def watched(
        self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress, watch: Watch
    ) -> Claim | Answer:
        """Attack as `run` does, with the same claim, calling `watch` along the search; never, where there is none."""
        return self.run(seen, knows, rng, progress)
