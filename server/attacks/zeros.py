"""Reads records off the entries that rest, or move equally."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Attack, Claim, Knowledge, Limit, Observation, Progress, Reading, nothing
from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.models import AnyModel

from ..countermeasures import answer, answered
from ..inversion import clock
from ..inversion.support.reading import read_support
from ..inversion.support.unrolled import SupportBudget, Work

RESTING = 0.02
"""Share of entries at rest from which on a layer's inputs may be one-hot columns."""


class Zeros(Attack):
    """Categories from the entries that moved, and moved equally; numbers from the units; both through the optimizer.

    Threat model: an honest-but-curious server with one update of one client. It needs the architecture (a perceptron
    with ReLU), the schema with at least one categorical column, the learning rate with the optimizer, and the epochs
    and batch size of local training. Adam, AdamW, RMSprop, SGD with momentum or without: whatever works entry by entry.

    Claims: whole records with labels, fitted to the update through the optimizer's own steps; verified where the
    training, repeated on them, explains the update.

    Derivation. At each local step entry (j, i) of the first layer, of unit j and one-hot input i, has the gradient sum
    of d_rj over the records r of category i at which j is active. (1) Where there is none, every gradient is zero and
    the entry rests. (2) Entries of a unit with the same set of such records have the same gradients, and move equally
    to the last bits, whatever the optimizer makes of them. A class of entries that moved equally therefore is the set
    of categories that one set of records shares; two classes that share a column stand for sets without a common
    record; and a record can have a unit active only if its entries there moved and no two of their classes share a
    column. Classes that name several columns are completed to tuples column by column, as what a record has must be
    admitted wherever the class comes back (`support.tuples`). Tuples that explain what moved are chosen greedily
    (`support.cover`); their categories are exchanged one by one while that explains more (`support.exchange`). Behind a
    single epoch of several batches the size of a change tells which step alone reached an entry, so that each batch is
    read by itself (`support.batches`). (3) A unit that does not admit a tuple is inactive at the record, one with a
    class that no other record explains is active: half-spaces, in whose middle the numbers lie (`support.half_spaces`).
    (4) Labels are those by which the signs come out. (5) A single step leaves magnitudes: its deficit from the learning
    rate is eps / |g|, so that the spans of the gradient can be searched (`support.magnitudes`). (6) Gauss-Newton
    through the optimizer's unrolled steps fits all numbers to what float32 keeps of the update (`support.fit`).

    Unique where each record is alone at some units, by three columns or more, and half-spaces outnumber the numbers.
    Fails where entries neither rest nor move equally: activations other than ReLU, decay that the optimizer mixes into
    the gradients (Adam's weight_decay, the proximal term), noise, quantized or masked updates, dropout; where all
    columns are numbers; and where most units are active at many records of every category, as in large batches at
    narrow layers.

    Papers: the exact zeros behind ReLU are those of Dimitrov et al. 2024 (SPEAR), there for sums of gradients; nothing
    is published, as far as we know, on reading records behind adaptive optimizers.
    """

    kind: Literal["zeros"] = "zeros"
    """Selects this attack: the entries that moved, and moved equally."""
    adapts_to: ClassVar[frozenset[str]] = answered("masks")
    tried_in_turn: ClassVar[int | None] = 25
    assessed_with: ClassVar[Mapping[str, Any] | None] = {"entries": 2000, "seconds": 30.0}
    entries: int = Field(default=3000, ge=50, le=100_000)
    """Entries of each of the first two layers to which numbers are fitted, 50 to 100000."""
    iterations: int = Field(default=30, ge=0, le=1000)
    """Gauss-Newton steps of the fit at most, 0 to 1000; 0 leaves the numbers as the half-spaces give them."""
    seconds: float = Field(default=60.0, gt=0)
    """Seconds of computing after which the search ends; a limit that is hit makes results machine-dependent."""
    most_records: int = Field(default=128, ge=1, le=1024)
    """Records of the largest batch that is attacked, 1 to 1024; nothing is claimed of larger ones."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model is a perceptron whose hidden units rest: with ReLU behind its first layer."""
        return model.perceptron and len(model.widths) > 0 and getattr(model, "activation", "relu") == "relu"

    @classmethod
    def reads(cls, update: LayerUpdate, following: LayerUpdate | None) -> Reading | None:
        """Whether entries of the layer rest while others of their unit moved, as one-hot inputs leave them."""
        if update.layer.kind != "Linear" or update.layer.fed != "record":
            return Reading(False, "it is no linear layer that is fed by the record itself, with its one-hot columns")
        if update.layer.gate != "relu":
            return Reading(False, "no ReLU follows, so that no entry rests")
        if not update.moved or update.resting < RESTING:
            return Reading(
                False, "no entry rests of a unit and an input that moved: no column is one-hot, or decay moves all"
            )
        return Reading(True, "whole records, if its inputs are one-hot columns whose dictionary is known", likely=False)

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the records found, and note why others are missing."""
        against = answer(seen, knows)
        last = against.seen.last
        budget = SupportBudget(self.entries, self.iterations, self.most_records)
        with clock.limited(self.seconds):
            try:
                claim = read_support(last, against.requires, against.distortion(last), budget, Work(rng, progress))
            except (ValueError, torch.linalg.LinAlgError, Limit) as reason:  # type: ignore[attr-defined]
                width = next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)
                claim = nothing(reason, width)
            if clock.over() and int(claim.verified.sum()) < last.records:
                over = f"its {self.seconds:g} seconds were over"
                claim = replace(claim, unfinished=(*claim.unfinished, over), notes=(*claim.notes, over))
        progress(1.0)
        return against.decode(claim, rng)
