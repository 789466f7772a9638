"""What a malicious server does in place of the protocol: the base of the files in server/malicious/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fedinv.attack import Asks, Claim, Exchange, Knowledge, Observation, Progress, nothing
from fedinv.task.models import AnyModel

Weights = Mapping[str, Tensor]
"""Tensors by parameter name, in the network's order."""


@dataclass(frozen=True)
class Turn:
    """A message for which weights are made: to one client in one round."""

    client: int
    """Number of the client."""
    round: int
    """Number of the round, from 1."""
    cohort: tuple[int, ...]
    """Clients of the round, sorted."""
    targets: tuple[int, ...]
    """Clients of the round that the attacker watches, at least one."""
    seen: tuple[Exchange, ...] = ()
    """What was sent to this client, or to the round's sum, and came back in earlier rounds, oldest first; only for a
    deviation that looks back."""


@dataclass(frozen=True)
class Dial:
    """A setting that a server turns down to stay below the thresholds that clients vet by: less of it shows less."""

    key: str
    """Key of the deviation, a number above 0."""
    least: float
    """Smallest value that is tried."""
    most: float
    """Value above all that are tried, by default the deviation's own."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Other keys that are changed with it."""


class Deviation(BaseModel):
    """Base of a deviation: a frozen model whose fields are the keys of a scenario's [[server.deviations]].

    A built-in one is a file in server/malicious/ named after its kind; others come by the entry point group
    ``fedinv.deviations``. The docstring below a field is the key's description wherever fedinv shows it. Several
    deviations are carried out one after the other, in the order listed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """Name of the deviation, which selects it in a scenario and on the command line."""
    rounds: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(default=None, min_length=1)
    """Rounds in which the server deviates, counted from 1. Default: those that the attacker watches."""
    strength: float = Field(default=1.0, ge=0, le=1)
    """How far the weights go from the model's, 0, to the crafted ones, 1: less shows less to clients that vet them, and
    reveals less."""
    units: float = Field(default=1.0, gt=0, le=1)
    """Share of the first layer's units, the first of them, that have the crafted weights. Below 1 all else, the layers
    behind among it, stays the model's, which shows less to clients that vet weights."""
    alike: ClassVar[bool] = True
    """True: all clients of a round are sent the same weights, so that they have nothing to compare."""
    looks_back: ClassVar[bool] = False
    """True: what came back in earlier rounds is given to `craft`."""
    over_steps: ClassVar[Mapping[str, Any]] = {}
    """Settings with which it is tried unasked against clients that take several local steps."""
    takes_rounds: ClassVar[bool] = False
    """True: a single round shows nothing of it, as it consists in what is sent over several."""
    evasions: ClassVar[tuple[Mapping[str, Any], ...]] = ({"strength": 0.0},)
    """Settings, each a table of keys, by which somebody who knows the clients' detectors may keep below their
    thresholds: a duel tries them."""
    dials: ClassVar[tuple[Dial, ...]] = (Dial("strength", 0.01, 1.0), Dial("units", 0.01, 1.0))
    """Settings of which a duel searches the value that gets most records past the thresholds that it has set."""
    unmasks: ClassVar[bool] = False
    """True: single updates behind secure aggregation are opened, by messages that the defense's protocol sends; the
    scenario must list a defense that can be opened so."""
    asks: ClassVar[Asks | None] = None
    """Question whose people are given to `craft`, in `knows.question`, where an attack of the scenario is asked it."""

    def misfit(self, model: AnyModel) -> str | None:
        """The reason why it cannot be carried out on a model, as a clause; None where it can."""
        return None

    def active(self, round_: int, watched: tuple[int, ...]) -> bool:
        """Whether the server deviates in a round."""
        return round_ in (watched if self.rounds is None else self.rounds)

    def crafted_in(self, rounds: int) -> Sequence[int]:
        """Rounds, of so many in all of which it may deviate, in which it sends what no honest server would."""
        return range(1, rounds + 1)

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The weights to send in place of `sent`, which is not changed: same names, shapes and dtypes.

        Pure: `rng` is the only source of randomness, and begins anew for each client, so that what is drawn is the same
        for all. Raises ValueError with the reason where the network, the schema or what is known do not suffice.
        """
        return sent

    def next_model(self, before: Weights, sent: Weights, averaged: Weights, round_: int) -> Weights:
        """The global model after a round in which it deviated.

        `before` is the model before it, `sent` what all clients were sent, or the model where that differed, and
        `averaged` is `sent` after the strategy's step. Updates of crafted weights train nothing: the model stays as it
        was, unless a deviation says otherwise.
        """
        return before

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records that are read off updates of the weights that it made; none where it only prepares others."""
        return nothing(f"{self.kind} reads nothing of its own: its updates are for other attacks")
