"""Finds each record alone in the spans; needs the architecture."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from fedinv.attack import Attack, Claim, Knowledge, Observation, Progress
from fedinv.task.models import AnyModel

from ..countermeasures import answer, answered
from ..inversion.row_space.reading import read_records
from ..inversion.row_space.search import SpanBudget


class RowSpace(Attack):
    """Row-space search: each record alone must lie in the spans of the first two layers' updates.

    A batch's update of a linear layer has the records' inputs to that layer as rows of its row space (Dimitrov et al.
    2024, SPEAR, section 3; Petrov et al. 2024, DAGER, section 3), so that a record can be looked for by itself: its
    discrete columns by local search, its numbers by Gauss-Newton. A curious server needs the architecture (a perceptron
    of any activation) and fewer records than the second layer has units; the schema helps, and can be done without.
    After one step the spans are exact and so are the records; after several the second layer's are taken halfway, and
    numbers are approximate. Fails on noise, and where one wide hidden layer sees more records than they have columns.
    """

    kind: Literal["row-space"] = "row-space"
    adapts_to: ClassVar[frozenset[str]] = answered(
        "look", "noise", "rounding", "decode", "random_network", "trains_on_invalid_records"
    )
    compared: ClassVar[bool] = True
    starts: int = Field(default=SpanBudget.starts, ge=1, le=1000)
    """Records drawn in a round for each one still wanted; twice as many after each round that finds nothing."""
    rounds: int = Field(default=SpanBudget.rounds, ge=1, le=1000)
    """Rounds without a new record after which the search ends."""
    seconds: float = Field(default=SpanBudget.seconds, gt=0)
    """Wall clock after which no further round begins: a safety, as results then depend on the machine."""
    most_records: int = Field(default=SpanBudget.most_records, ge=1, le=4096)
    """Larger batches are not tried."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Perceptrons with a hidden layer: it reads the updates of the first two layers."""
        return model.perceptron and len(model.widths) > 0

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the records whose equations hold, and say in the notes why others are missing."""
        against, budget = answer(seen, knows), SpanBudget(self.starts, self.rounds, self.seconds, self.most_records)
        last = against.seen.last
        noise = against.distortion(last).spread
        return against.decode(read_records(last, against.requires, noise, budget, rng, progress), rng)
