"""Schedules of the learning rate, over the rounds of a run or over the local steps of a round."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from fedinv.strict import Strict
from fedinv.task.optimizers.short_form import by_kind


class Constant(Strict):
    """The learning rate as it is."""

    kind: Literal["constant"] = "constant"
    """Selects a constant learning rate."""

    def factor(self, at: int, of: int) -> float:
        """Multiple of the learning rate at step `at` of `of`, counted from 0."""
        return 1.0


class Step(Strict):
    """The learning rate times `factor` after every so many rounds or steps."""

    kind: Literal["step"] = "step"
    """Selects a learning rate that falls in steps."""
    every: int = Field(default=10, gt=0)
    """Rounds, or local steps, with the same learning rate."""
    by: float = Field(default=0.1, gt=0, le=1)
    """Factor of the learning rate after them; with `every` of 1 it is an exponential decay."""

    def factor(self, at: int, of: int) -> float:
        """Multiple of the learning rate at step `at` of `of`, counted from 0."""
        return float(self.by ** (at // self.every))


class Cosine(Strict):
    """The learning rate along half a cosine, from all of it to `floor` (Loshchilov, Hutter 2017, equation 5)."""

    kind: Literal["cosine"] = "cosine"
    """Selects a learning rate that falls along half a cosine."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Share of the learning rate that would be left after the last round or step."""

    def factor(self, at: int, of: int) -> float:
        """Multiple of the learning rate at step `at` of `of`, counted from 0."""
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * at / of)) / 2


class Linear(Strict):
    """The learning rate along a line, for a warm-up, or for a decay where `begin` is 1 and `end` is less."""

    kind: Literal["linear"] = "linear"
    """Selects a learning rate that changes along a line."""
    begin: float = Field(default=0.1, gt=0, le=1)
    """Share of the learning rate in the first round or step."""
    end: float = Field(default=1.0, gt=0, le=1)
    """Share of the learning rate that is reached, and kept from then on."""
    over: int = Field(default=5, gt=0)
    """Rounds, or local steps, after which it is reached."""

    def factor(self, at: int, of: int) -> float:
        """Multiple of the learning rate at step `at` of `of`, counted from 0."""
        return self.begin + (self.end - self.begin) * min(at, self.over) / self.over


Table = Constant | Step | Cosine | Linear
"""The schedules' tables."""
KINDS: Mapping[str, type[Strict]] = {one.model_fields["kind"].default: one for one in get_args(Table)}
"""The schedules by kind."""
AnySchedule = Annotated[Annotated[Table, Field(discriminator="kind")], by_kind(KINDS)]
"""Any of the schedules, as a scenario writes it: `"cosine"` or `{ kind = "step", every = 5 }`."""
