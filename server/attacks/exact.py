"""Solves the first layer for whole records; needs no knowledge."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Limit, Observation, Progress, Reading, nothing
from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.models import AnyModel

from ..countermeasures import Countermeasures, answer, answered
from ..inversion import clock
from ..inversion.exact.first_layer import Factors, FirstLayer, factor, first_layer
from ..inversion.exact.peeling import Mixture, Peeled, PeelingBudget, peel
from ..inversion.exact.signals import Labeled, label, target
from ..inversion.exact.validity import SLACK, fault, snap, stray
from ..inversion.local_training import step_length
from ..inversion.matching.chain import activation_of
from ..inversion.matching.optimize import part
from ..inversion.recompute import explains, mismatch, recompute_update
from ..inversion.row_space.reading import read_records
from ..inversion.row_space.search import SpanBudget
from ..inversion.single_layer import inputs, no_spans

SEARCHED = "signals did not tell the records apart: found in the spans of the update"
UNITS = 8
"""First-layer units per record below which the search for sparse signals mostly finds none."""
ROUGH = 1e-5
"""Singular values below this share of the largest do not count towards the update's rank."""
SURE = 0.9
"""Least share of the units inactive at a record on which its signal vanishes for the record to count as verified."""
ALIKE = 0.98
"""Least cosine, in an update of a single step, between a record's recovered signal and its back-propagated one."""
SAME = 0.995
"""Least such cosine for the record to count as verified: a blend of similar records reached 0.987."""


class Exact(Attack):
    """Exact inversion of the first layer: the sparse directions in its update are the records' signals.

    Threat model: an honest-but-curious server with one update of one client (or one sum of updates). It needs no
    knowledge; the architecture adds labels, the schema snaps fields to valid values and verifies them.

    Claims: whole records, at most as many as the first layer's update has rank, and only those that pass checks which
    need no truth.

    Papers: one record is a ratio of the update's weights and biases (Phong et al. 2018, section 3). Several are
    separated because ReLU makes each one's back-propagated signal vanish on its inactive units (Dimitrov et al. 2024,
    SPEAR; SPEAR++ 2025); as local steps all see the same records, this holds for FedAvg too. Where signals do not
    vanish (activations other than ReLU), or the layer is too narrow to separate them, it falls back on the spans of
    row-space.

    Fails behind noise, on updates of lower rank than the batch has records, and on networks whose first layer is not
    linear.
    """

    kind: Literal["exact"] = "exact"
    """Selects this attack: exact inversion of the first layer."""
    adapts_to: ClassVar[frozenset[str]] = answered(
        "look", "noise", "rounding", "decode", "random_network", "trains_on_invalid_records"
    )
    tried_in_turn: ClassVar[int | None] = 10
    assessed_with: ClassVar[Mapping[str, Any] | None] = {}
    restarts_per_record: int = Field(default=10, ge=1, le=1000)
    """Starting points of the search per record, 1 to 1000; a round that finds nothing is followed by one with more."""
    iterations: int = Field(default=150, ge=10, le=10_000)
    """Steps of the search from each starting point, 10 to 10000."""
    rounds: int = Field(default=6, ge=1, le=50)
    """Rounds in a row without a new record after which the search ends, 1 to 50."""
    seconds: float = Field(default=30.0, gt=0)
    """Seconds of computing after which no further round begins; a limit that is hit makes results machine-dependent."""
    most_records: int = Field(default=256, ge=1, le=4096)
    """Records of the largest batch that is attacked, 1 to 4096; nothing is claimed of larger ones."""
    enough: int | None = Field(default=None, ge=1)
    """Number of records after which no further round begins, 1 or more; all of them where it is left out."""
    fall_back: bool = True
    """Whether records that their signals do not separate are searched in the update's spans, as row-space does."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model is a perceptron, whose first layer it solves, or begins with an encoding of the record."""
        return model.perceptron or model.encodes

    @classmethod
    def reads(cls, update: LayerUpdate, following: LayerUpdate | None) -> Reading | None:
        """Whether the layer's inputs have sparse signals that its update separates."""
        reason = no_spans(update)
        if update.layer.gate == "last" and not update.rescaled and (reason or update.rank > 1):
            reason = "no ReLU follows: only of a single record could its inputs be read"
        elif not reason and update.layer.gate not in ("relu", "relu, pooled", "last"):
            reason = "no ReLU follows, so that signals vanish on no unit"
        if reason:
            return Reading(False, reason)
        units = update.units_per_record
        weak = (
            f"; {units:.0f} units a record are fewer than the {UNITS} that mostly suffice" if 0 < units < UNITS else ""
        )
        return Reading(True, inputs(update) + weak, likely=not weak)

    def beside(self, others: Collection[str]) -> Attack:
        """The attack without its fallback where row-space is among the others, unless the fallback is asked for."""
        fall_back = self.fall_back and ("fall_back" in self.model_fields_set or "row-space" not in others)
        return self.model_copy(update={"fall_back": fall_back})

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the verified records, and note why others are missing."""
        against = answer(seen, knows)
        return against.decode(self._found(against, rng, progress), rng)

    def _found(self, against: Countermeasures, rng: np.random.Generator, progress: Progress) -> Claim:
        last, knows = against.seen.last, against.requires
        searched: Claim | None = None

        def search(begin: float, end: float) -> Claim:
            noise, budget = against.distortion(last).spread, SpanBudget(seconds=self.seconds, enough=self.enough)
            found = read_records(last, knows, noise, budget, rng, part(progress, begin, end))
            return replace(found, notes=(*found.notes, SEARCHED))

        try:
            layer = first_layer(last, knows)
            if self.fall_back and _hopeless(layer, last.records):
                searched = search(0, 0.5)
            if searched is not None and len(searched.records) == last.records:
                claim = searched
            else:
                claim = self._run(against, layer, rng, part(progress, 0.5, 1) if searched else progress)
        except (ValueError, torch.linalg.LinAlgError, Limit) as reason:  # type: ignore[attr-defined]
            width = next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)
            claim = replace(nothing(reason, width), labels=torch.zeros(0, dtype=torch.int64))
        if self.fall_back and len(claim.records) < last.records:
            searched = searched or search(0.5, 1)
            claim = max(claim, searched, key=lambda one: len(one.records))
        progress(1.0)
        return claim

    def _run(self, against: Countermeasures, layer: FirstLayer, rng: np.random.Generator, progress: Progress) -> Claim:
        last, knows = against.seen.last, against.requires
        if not 1 <= last.records <= self.most_records:
            raise Limit(f"{last.records} records, the attack tries 1 to {self.most_records}")
        if knows.schema is not None and knows.schema.width != layer.weight.shape[1] - 1:
            raise ValueError("the schema does not fit the network's inputs")
        if activation_of(knows.model) not in (None, "relu"):
            raise ValueError("signals vanish on no unit: the activation is no ReLU")
        if layer.last and last.records > 1:
            raise ValueError(
                f"the network has one layer and no ReLU: only a single record can be read off it, not {last.records}"
            )
        single_step = knows.algorithm == "fedsgd"
        noise = against.distortion(last).spread
        if knows.schema is not None:
            noise = max(noise, stray(knows.schema, layer.update))
        factors = factor(layer, last.records, noise, lossless=single_step)
        rank = factors.left.shape[1]
        if rank == 0:
            raise ValueError("the first layer's update does not stand above the noise in it")
        if layer.last:
            found = _single(factors, knows)
        else:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            deadline = clock.seconds() + self.seconds
            budget = PeelingBudget(self.restarts_per_record, self.iterations, self.rounds, deadline, self.enough)
            found = peel(Mixture(layer, factors, knows.schema, single_step), budget, generator, progress)
        if knows.schema is None:
            # after several steps nothing tells a record from one with a part of those that were not found
            found = found.those(found.agreement > SURE)
        if len(found.records) == 0:
            raise ValueError(f"no direction in the update's {rank} could be verified to be a record")
        return _claim(last, knows, found, rank, single_step and not against.random_network, rng)


def _hopeless(layer: FirstLayer, records: int) -> bool:
    """Whether signals can hardly separate the records, so that the spans, which are quicker, are searched first."""
    rank = int(torch.linalg.matrix_rank(layer.update, rtol=ROUGH))
    return len(layer.update) < UNITS * records or rank < records


def _single(factors: Factors, knows: Knowledge) -> Peeled:
    """The one record of a network without hidden units, (1, d + 1), or none; only the schema can verify it."""
    row = factors.right[:1]
    scale = row[:, -1:]
    blur = factors.noise * row.shape[1] ** 0.5 / float(scale.abs())
    record, worst = row / scale, torch.zeros(1, dtype=row.dtype)
    if knows.schema is not None:
        worst = fault(knows.schema, record[:, :-1])
        record = torch.cat([snap(knows.schema, record[:, :-1]), record[:, -1:]], 1)
    sure = bool(worst < SLACK) and blur < SLACK
    return Peeled(record[:sure], (scale * factors.left.T)[:sure], torch.ones(int(sure)), worst[:sure])


def _claim(
    last: Exchange, knows: Knowledge, found: Peeled, rank: int, comparable: bool, rng: np.random.Generator
) -> Claim:
    records, notes = found.records[:, :-1].float(), list[str]()
    checked, alike = found.agreement > SURE, SAME if knows.schema is None else ALIKE
    confidence = found.agreement * (1 - found.fault.clamp(0, 1))
    again = torch.ones(len(records), dtype=torch.int64)
    labels = None
    if knows.model is not None and knows.loss == "squared-error":
        read_targets = target(knows, last, records, found.signals)
        good = read_targets.likeness > alike if comparable else torch.ones(len(records), dtype=torch.bool)
        if not bool(good.any()):
            raise ValueError("no direction in the update could be verified to be a record's signal")
        records, checked, again, labels = (
            records[good],
            checked[good] & (read_targets.likeness[good] > SAME if comparable else True),
            again[good],
            None if read_targets.targets is None else read_targets.targets[good],
        )
        confidence = (confidence * read_targets.likeness)[good] if comparable else confidence
        notes.extend(read_targets.notes)
    elif knows.model is not None:
        # only in a single step is a record's signal the one back-propagated through the weights that were sent
        length = step_length(knows, last.records) if comparable and not knows.class_weights else None
        step = None if length is None else length / last.records
        read = label(knows.model, last.sent, records, found.signals, step, last.records - rank + 1)
        if comparable:
            good = read.likeness > alike
            records, confidence, read = records[good], (confidence * read.likeness)[good], _rows(read, good)
            checked = checked[good] & (read.likeness > SAME)
            if not bool(good.any()):
                raise ValueError("no direction in the update could be verified to be a record's signal")
        again = read.counts.sum(1)
        labels = torch.cat([torch.repeat_interleave(torch.arange(len(c)), c) for c in read.counts])
    else:
        notes.append("the architecture is withheld: no labels")
    distinct = len(records)
    records, confidence = records.repeat_interleave(again, 0), confidence.repeat_interleave(again, 0)
    if rank < last.records:
        notes.append(f"the update has rank {rank}, fewer than the {last.records} records: no more can be told apart")
    if distinct < len(records):
        notes.append(f"{distinct} distinct records stand for {len(records)}")
    if len(records) < last.records:
        notes.append(f"{len(records)} of {last.records} records recovered")
    left = _mismatch(last, knows, records, labels, rng)
    explained = explains(left, knows, last.records)
    if not (comparable or explained or left is None or knows.schema) and len(records) == last.records:
        raise ValueError(f"{len(records)} records were separated, but trained on again they do not explain the update")
    checked = checked.repeat_interleave(again, 0) | explained
    return Claim(records, confidence.float().clamp(0, 1), labels, left, tuple(notes), checked=checked)


def _mismatch(
    last: Exchange, knows: Knowledge, records: Tensor, labels: Tensor | None, rng: np.random.Generator
) -> float | None:
    if labels is None:
        return None
    try:
        again = recompute_update(knows, last.sent, records, labels, rng, count=last.records)
    except ValueError:
        return None  # too little is known to recompute the update
    return mismatch(again, last.received)


def _rows(read: Labeled, good: Tensor) -> Labeled:
    return Labeled(read.counts[good], read.likeness[good])
