"""Sends the same weights again, so that noise averages out."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from fedinv.deviation import Deviation, Weights


class Repeat(Deviation):
    """The first weights are sent again in every round, and what came back is kept for an attack that averages it.

    Threat model: a malicious server that every client believes. Clients that compare the weights of two rounds see it.

    Claims: nothing of its own; `line-up`, `dp-aware` and others read several rounds of the same weights.
    """

    kind: Literal["repeat"] = "repeat"
    """Selects this deviation: the same weights again."""
    times: int = Field(default=2, gt=1)
    """Rounds, from the first, that have the same weights, 2 or more; training goes on from the last of them."""

    takes_rounds: ClassVar[bool] = True

    def crafted_in(self, rounds: int) -> Sequence[int]:
        """All but the first of the rounds that have the same weights."""
        return range(2, min(rounds, self.times) + 1)

    def active(self, round_: int, watched: tuple[int, ...]) -> bool:
        """Whether a round is one of the first `times`."""
        return round_ <= self.times

    def next_model(self, before: Weights, sent: Weights, averaged: Weights, round_: int) -> Weights:
        """The weights that were sent, until all rounds had them; then the last of them's average."""
        return sent if round_ < self.times else averaged
