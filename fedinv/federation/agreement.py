"""The public part of a scenario: what the server and its clients agree on before the first round.

It names no data source, so that the server can read it without access to anything that produces a record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from fedinv.defense_terms import with_model_keys
from fedinv.errors import RequestError, plain
from fedinv.federation.strategies import FEDAVG, AnyStrategy
from fedinv.federation.streams import hidden_seed, stream
from fedinv.federation.training import Training
from fedinv.federation.watching import with_watch
from fedinv.strict import Strict
from fedinv.task.models import DEFAULT, Model
from fedinv.task.optimizers import CONSTANT, KINDS, SGD, AnyOptimizer, AnySchedule, Sgd

Known = Literal["architecture", "loss", "schema", "lr", "batch-size", "epochs", "defenses"]


class Federation(Strict):
    """Number of clients, how many take part in a round, and number of rounds."""

    clients: int = Field(gt=0)
    """Clients in the whole federation; each holds its own records."""
    clients_per_round: int | None = Field(default=None, gt=0)
    """Clients that take part in each round, drawn without replacement from the seed. Default: all of them."""
    rounds: int = Field(gt=0)
    """Rounds of training. Each round adds to the cost in privacy of a defense that adds noise."""
    round_seconds: float = Field(default=3600.0, gt=0)
    """Seconds for which the server waits for a round's replies; clients that reply later are left out of it."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a round's clients that drop out of it: they receive the model and, under secure aggregation, share their
    keys, but send no update. The seed draws which, at least one and never all of them. Default: nobody."""

    strategy: AnyStrategy = FEDAVG
    """What the server does with the round's mean update: "fedavg", "fedavgm", "fedadam" or "fedyogi", Flower's
    strategies, or a table of their settings such as { kind = "fedadam", eta = 0.03 }."""

    @property
    def participants(self) -> int:
        """Number of clients that take part in each round, those that drop out among them."""
        return self.clients_per_round or self.clients


PositiveWeight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TrainingTable(Strict):
    """Local training: what each client does with its records in a round."""

    algorithm: Literal["fedsgd", "fedavg"]
    """Federated SGD ("fedsgd") takes one step on one batch a round, and its update is -lr times a gradient. Federated
    averaging ("fedavg") goes `epochs` times over all of a client's records."""
    epochs: int = Field(default=1, gt=0)
    """Passes over a client's records in a round; fedsgd ignores it."""
    batch_size: int = Field(default=8, gt=0)
    """Records in a batch, at most all that the client holds; their expected number where dp-sgd draws batches."""
    records_per_client: int | None = Field(default=None, gt=0)
    """Largest number of records that a client holds; the rest of its share is unused. Default: no limit."""
    lr: float = Field(default=0.05, gt=0)
    """Learning rate: length of a step over that of the optimizer's direction, the gradient for sgd. Default: 0.05 with
    sgd, 0.001 with adam and adamw, 0.01 with rmsprop."""
    optimizer: AnyOptimizer = SGD
    """Optimizer of local training: "sgd", "adam", "adamw" or "rmsprop", or a table of its settings such as
    { kind = "adam", betas = [0.9, 0.999] }. It begins anew at each client in each round, as nothing but weights is
    sent. With fedsgd it takes a single step: Adam's is nearly the gradient's sign times the learning rate."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Share of the previous step that is added to each step, for sgd and rmsprop; it starts from zero in every
    round."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Multiple of the weights that is added to each gradient (L2 regularization); with adamw, by which they shrink at
    each step, times the learning rate. Default: 0, and 0.01 with adamw."""
    proximal: float = Field(default=0.0, ge=0)
    """FedProx: multiple, mu, of the distance to the global model that is added to each gradient, so that clients drift
    less (Li et al. 2020, equation 2). 0 is FedAvg; fedsgd's single step begins where it is 0."""
    schedule: AnySchedule = CONSTANT
    """Schedule of the learning rate over the rounds: "constant", "step", "cosine" or "linear", or a table such as
    { kind = "step", every = 10, by = 0.5 }."""
    local_schedule: AnySchedule = CONSTANT
    """Schedule of the learning rate over the local steps of each round, of the same kinds as `schedule`; the two are
    multiplied."""
    class_weights: tuple[PositiveWeight, ...] = ()
    """Weight of each class in the loss, in the order of the data's classes: the loss is the mean over records of weight
    times cross-entropy, not divided by the batch's sum of weights, which would make a record's share depend on others.
    Default: all weigh the same."""
    class_counts: tuple[PositiveWeight, ...] = ()
    """Counts, or shares, of the classes that are public, as of a register, for balanced weights in place of
    class_weights: the mean count over the class' own. Counts of the clients' records are no public ones: nobody is
    asked for them."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for clients that are trained in one stacked tensor: "auto" takes a GPU where there is one."""

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, document: Any) -> Any:
        """The table with the learning rate and the decay that are usual for its optimizer, where it writes none."""
        if not isinstance(document, Mapping):
            return document
        if document.get("class_weights") == "balanced":
            raise ValueError(
                "class_weights: balanced ones need public counts of the classes: write class_counts = [900, 100]"
            )
        written = document.get("optimizer", "sgd")
        kind = written.get("kind") if isinstance(written, Mapping) else written
        found = KINDS.get(kind) if isinstance(kind, str) else None
        if found is None:
            return document
        return {"lr": found.usual_lr, "weight_decay": found.usual_decay, **document}

    @model_validator(mode="after")
    def _fitting(self) -> "TrainingTable":
        optimizer, one_step = self.optimizer, self.algorithm == "fedsgd"
        if self.momentum and not optimizer.takes_momentum:
            raise ValueError(
                f"momentum: {optimizer.kind} has its own, the first of its betas: leave momentum out, or write "
                f'optimizer = {{ kind = "{optimizer.kind}", betas = [{self.momentum:g}, 0.999] }}'
            )
        if isinstance(optimizer, Sgd) and optimizer.nesterov and not self.momentum:
            raise ValueError("optimizer.nesterov: is a kind of momentum: write momentum = 0.9 beside it")
        if self.proximal and one_step:
            raise ValueError(
                "proximal: fedsgd takes one step, from the global model, where the proximal term is 0: write "
                'algorithm = "fedavg"'
            )
        if self.class_weights and self.class_counts:
            raise ValueError("class_counts: stand in place of class_weights: write one of the two")
        if one_step and self.local_schedule != CONSTANT:
            raise ValueError('local_schedule: fedsgd takes one step a round: write algorithm = "fedavg", or `schedule`')
        return self

    @property
    def settings(self) -> Training:
        """The settings of local training, with the learning rate before any schedule over rounds."""
        return Training(
            self.algorithm,
            self.epochs,
            self.batch_size,
            self.lr,
            self.momentum,
            self.weight_decay,
            self.optimizer,
            self.proximal,
            self.local_schedule,
            self.weights,
        )

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each class in the loss; empty where all weigh the same."""
        if self.class_counts:
            return tuple(sum(self.class_counts) / len(self.class_counts) / count for count in self.class_counts)
        return self.class_weights

    @property
    def _weighing(self) -> str:
        return "class_counts" if self.class_counts else "class_weights"

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise RequestError where the class weights are not one for each of the data's classes."""
        if not self.weights or len(self.weights) == len(classes):
            return
        if not classes:
            raise RequestError(f"training.{self._weighing}: the label is a number, and has no classes: leave it out")
        named = ", ".join(map(repr, map(plain, classes[:10])))
        raise RequestError(
            f"training.{self._weighing}: has {len(self.weights)} for {len(classes)} classes: write one each, in the "
            f"order {named}"
        )

    def round_lr(self, round_: int, rounds: int) -> float:
        """Learning rate of a round, counted from 1, of so many."""
        return self.lr * self.schedule.factor(round_ - 1, rounds)

    def in_round(self, round_: int, rounds: int) -> Training:
        """The settings of local training in a round, counted from 1, of so many."""
        return replace(self.settings, lr=self.round_lr(round_, rounds))

    @property
    def heaviest(self) -> float | None:
        """Largest weight of a client in the mean, in records; None where the table sets no limit."""
        most = self.batch_size if self.algorithm == "fedsgd" else self.records_per_client
        return None if most is None else float(most)


class Server(Strict):
    """Whether the server follows the protocol, and how it deviates from it where it does not."""

    kind: Literal["curious", "malicious"] = "curious"
    """An honest-but-curious server ("curious") follows the protocol and analyzes what it receives; a malicious one
    ("malicious") may deviate from it by the other keys of this table."""
    repeat: int = Field(default=1, gt=0)
    """Rounds in which a malicious server sends the same initial weights, so that it can average the noise of the
    replies away; training goes on from the last of them. 1 does not deviate."""
    unmask: bool = False
    """True: a malicious server reveals each update behind secagg-plus. It tells all clients that their neighbors are
    present and that they dropped out, and receives the shares of both secrets. Clients with check_lists refuse. Short
    for the deviation of that name."""

    overflow: bool = False
    """True: a malicious server sends weights at which one particular record, if a client holds it, makes the gradient
    overflow, which reveals its membership."""

    deviations: tuple[SerializeAsAny[Mapping[str, Any]], ...] = ()
    """Deviations of a malicious server from the protocol, each a table with a kind, carried out in the order listed;
    none by default. `fedinv list deviations` names them."""

    @model_validator(mode="after")
    def _follows_the_protocol(self) -> "Server":
        if self.kind == "curious" and self.repeat > 1:
            raise ValueError('repeat: a curious server follows the protocol, write kind = "malicious"')
        if self.kind == "curious" and self.unmask:
            raise ValueError('unmask: a curious server follows the protocol, write kind = "malicious"')
        if self.kind == "curious" and self.overflow:
            raise ValueError('overflow: a curious server follows the protocol, write kind = "malicious"')
        if self.kind == "curious" and self.deviations:
            raise ValueError('deviations: a curious server follows the protocol, write kind = "malicious"')
        return self

    @property
    def short_forms(self) -> tuple[Mapping[str, Any], ...]:
        """The tables of deviations that the keys stand for."""
        found: list[Mapping[str, Any]] = []
        if self.repeat > 1:
            found.append({"kind": "repeat", "times": self.repeat})
        if self.overflow:
            found.append({"kind": "overflow"})
        if self.unmask:
            found.append({"kind": "unmask"})
        return tuple(found)


class Watch(Strict):
    """Observed rounds, and the number of clients that are observed in each."""

    rounds: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1,), min_length=1)
    """Rounds whose updates are attacked, counted from 1."""
    clients: int = Field(default=1, gt=0)
    """Clients of each such round whose updates are attacked. Default: one where the partition is iid or drawn;
    where it is skewed all of a round, or of more than eight the eight smallest. Secure aggregation leaves one
    observation a round, the sum over all its clients."""
    choose: Literal["first", "smallest"] = "first"
    """Which clients of a round are watched: the first by number ("first"), or those that report the fewest records
    ("smallest"), which are mostly the easiest to attack."""


class Attacker(Strict):
    """The attacker's observations and background knowledge."""

    watch: Watch = Watch()
    """Rounds and clients whose updates are attacked."""
    knows: tuple[Known, ...] = ("architecture", "loss", "schema", "lr", "batch-size", "epochs", "defenses")
    """Facts that are revealed to attacks; what is not listed is withheld, and attacks that need it do not run. Only
    adaptive attacks receive "defenses"."""
    auxiliary: int = Field(default=0, ge=0)
    """Number of records of the same population, held by no client, that the attacker has, to train shadow models or
    generators on. They are taken from the held-out records."""


class Agreement(BaseModel):
    """The tables of a scenario that the server reads; all others are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    seed: int = 7
    secret: str | None = None
    model: Model = DEFAULT
    federation: Federation
    training: TrainingTable
    server: Server = Server()
    attacker: Attacker = Attacker()
    defenses: tuple[Mapping[str, Any], ...] = ()
    """Defenses as the scenario writes them: the server carries out its part of some."""
    vetting: tuple[Mapping[str, Any], ...] = ()
    """Detectors of the clients, as the scenario writes them: with any, clients compare digests of what they were
    sent."""

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, document: Any) -> Any:
        return with_watch(with_model_keys(document))

    @property
    def hidden(self) -> int:
        """Seed of the noise that the server adds, which cannot be guessed where there is a secret."""
        return hidden_seed(self.secret, self.seed)

    def defense(self, kind: str) -> Mapping[str, Any] | None:
        """Keys of a defense as the scenario writes them; None where the scenario does not use it."""
        return next((defense for defense in self.defenses if defense.get("kind") == kind), None)


def round_clients(clients: int, per_round: int, seed: int, round_: int) -> tuple[int, ...]:
    """The clients that take part in a round, sorted: `per_round` of them without replacement."""
    if per_round == clients:
        return tuple(range(clients))
    chosen = stream(seed, "clients", round_).choice(clients, per_round, replace=False)
    return tuple(sorted(int(c) for c in chosen))


def round_dropouts(federation: Federation, seed: int, round_: int) -> frozenset[int]:
    """The clients of a round that drop out of it, a share of `federation.dropout`: at least one, and never all."""
    if not federation.dropout:
        return frozenset()
    cohort = round_clients(federation.clients, federation.participants, seed, round_)
    gone = min(max(1, round(federation.dropout * len(cohort))), len(cohort) - 1)
    return frozenset(int(c) for c in stream(seed, "dropouts", round_).choice(cohort, gone, replace=False))


def round_senders(federation: Federation, seed: int, round_: int) -> tuple[int, ...]:
    """The clients of a round that are to send an update, sorted: those that take part and do not drop out."""
    gone = round_dropouts(federation, seed, round_)
    return tuple(c for c in round_clients(federation.clients, federation.participants, seed, round_) if c not in gone)
