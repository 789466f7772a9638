"""The public part of a scenario: what the server and its clients agree on before the first round.

It names no data source, so the server can read it without getting at anything that produces a record.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedinv.defense_terms import with_model_keys
from fedinv.federation.streams import stream
from fedinv.federation.training import Training
from fedinv.strict import Strict
from fedinv.task.models import DEFAULT, Model

Known = Literal["architecture", "loss", "schema", "lr", "batch-size", "epochs", "defenses"]


class Federation(Strict):
    """Who takes part, and how often."""

    clients: int = Field(gt=0)
    clients_per_round: int | None = Field(default=None, gt=0)
    """All of them when absent."""
    rounds: int = Field(gt=0)
    round_seconds: float = Field(default=3600.0, gt=0)
    """How long the server waits for a round's replies; who is later is left out."""

    @property
    def participants(self) -> int:
        """Clients in each round."""
        return self.clients_per_round or self.clients


class TrainingTable(Strict):
    """How a client trains."""

    algorithm: Literal["fedsgd", "fedavg"]
    epochs: int = Field(default=1, gt=0)
    batch_size: int = Field(default=8, gt=0)
    records_per_client: int | None = Field(default=None, gt=0)
    lr: float = Field(default=0.05, gt=0)
    optimizer: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where clients that are trained together are trained: "auto" takes a GPU where there is one."""

    @property
    def settings(self) -> Training:
        """What local training needs to know."""
        return Training(self.algorithm, self.epochs, self.batch_size, self.lr, self.momentum, self.weight_decay)

    @property
    def heaviest(self) -> float | None:
        """What a client can count at most in the mean, in records; None where nothing limits it."""
        most = self.batch_size if self.algorithm == "fedsgd" else self.records_per_client
        return None if most is None else float(most)


class Server(Strict):
    """What kind of server it is: "curious" follows the protocol and looks at what it gets, "malicious" need not."""

    kind: Literal["curious", "malicious"] = "curious"
    repeat: int = Field(default=1, gt=0)
    """A malicious server sends the first round's weights in so many rounds, to average the noise of its clients'
    answers away; it goes on training from what the last of them gave."""
    unmask: bool = False
    """A malicious server opens each update behind secagg-plus: it tells all clients that their neighbors are present
    and that they dropped out, and gets the shares of both secrets. Clients whose check_lists is on refuse."""

    overflow: bool = False
    """A malicious server sends weights at which one record in particular, if it is there, makes numbers overflow."""

    @model_validator(mode="after")
    def _follows_the_protocol(self) -> "Server":
        if self.kind == "curious" and self.repeat > 1:
            raise ValueError('repeat: a curious server follows the protocol, write kind = "malicious"')
        if self.kind == "curious" and self.unmask:
            raise ValueError('unmask: a curious server follows the protocol, write kind = "malicious"')
        if self.kind == "curious" and self.overflow:
            raise ValueError('overflow: a curious server follows the protocol, write kind = "malicious"')
        return self


class Watch(Strict):
    """Which rounds, and how many of a round's clients, the attacker looks at."""

    rounds: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1,), min_length=1)
    clients: int = Field(default=1, gt=0)


class Attacker(Strict):
    """What the attacker sees and what it knows beside that."""

    watch: Watch = Watch()
    knows: tuple[Known, ...] = ("architecture", "loss", "schema", "lr", "batch-size", "epochs", "defenses")
    auxiliary: int = Field(default=0, ge=0)
    """Records of the same population, held by no client, that the attacker has: to train shadow models or generators
    on. They are taken from the records that are held out."""


class Agreement(BaseModel):
    """What the server reads of a scenario; the tables that are none of its business are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    seed: int = 7
    model: Model = DEFAULT
    federation: Federation
    training: TrainingTable
    server: Server = Server()
    attacker: Attacker = Attacker()
    defenses: tuple[Mapping[str, Any], ...] = ()
    """As the scenario writes them: the server has a part of its own in some."""

    @model_validator(mode="before")
    @classmethod
    def _with_model_keys(cls, document: Any) -> Any:
        return with_model_keys(document)

    def defense(self, kind: str) -> Mapping[str, Any] | None:
        """What the scenario writes of a defense; None where it is not on."""
        return next((defense for defense in self.defenses if defense.get("kind") == kind), None)


def round_clients(clients: int, per_round: int, seed: int, round_: int) -> tuple[int, ...]:
    """The clients that take part in a round, sorted: `per_round` of them without replacement."""
    if per_round == clients:
        return tuple(range(clients))
    chosen = stream(seed, "clients", round_).choice(clients, per_round, replace=False)
    return tuple(sorted(int(c) for c in chosen))
