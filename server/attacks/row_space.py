"""Finds each record by itself in the spans; needs the model."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from fedinv.attack import Attack, Claim, Knowledge, Observation, Progress, Reading
from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.models import AnyModel
from fedinv.task.networks.tabular import TABLES

from ..countermeasures import answer, answered
from ..inversion.row_space.reading import read_records
from ..inversion.row_space.search import SpanBudget
from ..inversion.single_layer import inputs, no_spans


class RowSpace(Attack):
    """Row-space search: each record by itself must lie in the spans of the first two layers' updates.

    Threat model: an honest-but-curious server with one update of one client (or one sum of updates). It needs the
    architecture (a perceptron of any activation, or a network that begins with an encoding of the record) and fewer
    records than the second layer has units; the schema helps, and can be done without.

    Claims: whole records that lie in the spans. After a single step the spans are exact and so are the records; after
    several the second layer's are computed halfway between the two models, and numbers are approximate.

    Papers: a batch's update of a linear layer has the records' inputs to that layer in its row space (Dimitrov et al.
    2024, SPEAR, section 3; Petrov et al. 2024, DAGER, section 3), so that a record can be searched by itself: its
    discrete columns by local search, its numbers by Gauss-Newton.

    Fails on noise, and where one wide hidden layer sees more records than they have columns.
    """

    kind: Literal["row-space"] = "row-space"
    """Selects this attack: the row-space search."""
    adapts_to: ClassVar[frozenset[str]] = answered(
        "look", "noise", "rounding", "decode", "random_network", "trains_on_invalid_records"
    )
    tried_in_turn: ClassVar[int | None] = 20
    assessed_with: ClassVar[Mapping[str, Any] | None] = {}
    starts: int = Field(default=SpanBudget.starts, ge=1, le=1000)
    """Starting records drawn in a round for each one not yet found, 1 to 1000; doubled after a round without any."""
    rounds: int = Field(default=SpanBudget.rounds, ge=1, le=1000)
    """Rounds in a row without a new record after which the search ends, 1 to 1000."""
    seconds: float = Field(default=SpanBudget.seconds, gt=0)
    """Seconds of computing after which no further round begins; a limit that is hit makes results machine-dependent."""
    most_records: int = Field(default=SpanBudget.most_records, ge=1, le=4096)
    """Records of the largest batch that is attacked, 1 to 4096; nothing is claimed of larger ones."""

    enough: int | None = Field(default=None, ge=1)
    """Number of records after which no further round begins, 1 or more; all of them where it is left out."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model has a hidden layer, and its first layer is fed by the record or an encoding of it."""
        return (model.perceptron or model.encodes) and len(model.widths) > 0

    @classmethod
    def reads(cls, update: LayerUpdate, following: LayerUpdate | None) -> Reading | None:
        """Whether the updates of the layer and the one behind it have row spaces that its records must fit.

        Inputs fewer than the records fill the layer's own; then that of the layer behind it tells them apart.
        """
        origin = update.origin
        if origin is not None and origin.model.encodes and origin.single and not origin.linear:
            # a first step of Adam's, of which float32 keeps the gradient
            begins = update.layer.fed != "features" and not update.layer.name.startswith(TABLES)
            return (
                Reading(True, f"{inputs(update)}, from the deficit of the first step")
                if begins
                else Reading(False, no_spans(update))
            )
        reason, behind = no_spans(update), "no linear layer follows" if following is None else no_spans(following)
        if update.layer.kind == "Linear" and not update.rescaled and not update.layer.name.startswith(TABLES):
            if update.layer.gate == "last":
                reason = "no layer follows whose update its inputs would have to fit as well"
            elif update.full:
                reason = behind and f"{reason}; the layer behind it does not tell them apart either: {behind}"
        return Reading(False, reason) if reason else Reading(True, f"{inputs(update)}, as they must lie in its spans")

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the records whose equations hold, and note why others are missing."""
        against, budget = answer(seen, knows), self._budget()
        last = against.seen.last
        noise = against.distortion(last).spread
        return against.decode(read_records(last, against.requires, noise, budget, rng, progress), rng)

    def _budget(self) -> SpanBudget:
        return SpanBudget(self.starts, self.rounds, self.seconds, self.most_records, self.enough)
