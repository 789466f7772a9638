"""What a malicious server does in place of the protocol: the base of the files in server/malicious/."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

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
    alike: ClassVar[bool] = True
    """True: all clients of a round are sent the same weights, so that they have nothing to compare."""
    looks_back: ClassVar[bool] = False
    """True: what came back in earlier rounds is given to `craft`."""
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
