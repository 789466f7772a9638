"""Reads features off dense layers and searches what has them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Limit, Observation, Progress, Reading, nothing
from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.loss import loss
from fedinv.task.models import AnyModel

from ..countermeasures import Countermeasures, answer, answered
from ..inversion import clock
from ..inversion.exact.first_layer import ROUNDING
from ..inversion.feature_inversion import Halves, halves, sought
from ..inversion.local_training import decay, single_step, step_length
from ..inversion.matching.optimize import part
from ..inversion.recompute import bound_of, explains, mismatch, recompute_update
from ..inversion.row_space.deflation import shares
from ..inversion.row_space.spans import Span
from ..inversion.single_layer import no_spans
from ..inversion.verified_records import VerifiedRecords
from .gradient_matching import GradientMatching

WITHIN, MOST_WITHIN = 1e-5, 1e-3
"""Share of a record's features that may lie outside the span, at least and at most: wrong ones leave 1e-3 or more."""
ROUGH = 8.0
"""Such share as a multiple of what rounding moves the span's weakest direction by."""
NEARLY = 0.1
"""Part of that share at which the search for a record ends."""
STEPS = 40
"""Steps of the search for each record."""
SPREADS = (0.0, 0.05, 0.2)
"""Standard deviations of what is added to the matched records, one after another until a record is found: where a ReLU
switches the search may stick."""
HOPELESS = 0.02
"""Such share of the best record, found from the matched ones, above which nothing is tried near by: noise hides it."""
SAME = 1e-3
"""Distance, as a share of a record's length, within which two are the same."""


class FeatureInversion(Attack):
    """Feature inversion: features lie in the span of the dense layers' update, and a record is found for each.

    Threat model: an honest-but-curious server with one update of one client that took a single step. It needs the
    architecture (any feature layers, then linear layers with ReLU between them), the loss, the learning rate and the
    schema, which has the shape of a record.

    Claims: records whose features lie in the span to rounding and whose share of the update is that of a record, each
    verified so; what is then left of the update is matched again, and at the end its records are claimed beside them.
    Nothing where no record is verified.

    Papers: the span is that of SPEAR and DAGER (Dimitrov et al. 2024; Petrov et al. 2024, section 3), here of features.
    The search starts at what gradient matching (Geiping et al. 2020) makes of the update and goes on by
    Levenberg-Marquardt; found records are subtracted, as the others are then easier to match.

    Fails behind noise, after several local steps, with batch normalization, where a record has more numbers than
    features, and where the first dense layer has fewer units than the batch records.
    """

    kind: Literal["feature-inversion"] = "feature-inversion"
    """Selects this attack: feature inversion."""
    adapts_to: ClassVar[frozenset[str]] = answered("look", "noise", "rounding", "decode")
    tried_in_turn: ClassVar[int | None] = 26
    assessed_with: ClassVar[Mapping[str, Any] | None] = {}
    iterations: int = Field(default=400, ge=1, le=100_000)
    """Steps of the gradient matching from whose records each round begins, 1 to 100000."""
    rounds: int = Field(default=6, ge=1, le=100)
    """Rounds of matching, searching and subtracting, at most."""
    seconds: float = Field(default=120.0, gt=0)
    """Seconds of computing after which no further round begins; a limit that is hit makes results machine-dependent."""
    most_records: int = Field(default=64, ge=1, le=1024)
    """Records of the largest batch that is attacked, 1 to 1024; nothing is claimed of larger ones."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model has feature layers, behind which dense ones may give the features away."""
        return model.images and not model.perceptron

    @classmethod
    def reads(cls, update: LayerUpdate, following: LayerUpdate | None) -> Reading | None:
        """Whether the layer is the first dense one behind feature layers; None behind other networks."""
        origin = update.origin
        if origin is None or not cls.suits(origin.model):
            return None
        if not update.first:
            return Reading(False, "it reads the first dense layer, and searches what has the features found there")
        if not origin.single:
            return Reading(False, "features move with every local step")
        if update.layer.mixed:
            return Reading(False, "a batch normalization makes a record's features depend on the others of its batch")
        if update.shape[1] < origin.width:
            return Reading(False, f"{update.shape[1]} features do not determine the {origin.width} numbers of a record")
        reason = no_spans(update)
        return Reading(False, reason) if reason else Reading(True, "features of each record, and from them the record")

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the records that are verified, and those that the rest of the update matches best."""
        against = answer(seen, knows)
        try:
            return against.decode(self._run(against, rng, progress), rng)
        except (ValueError, torch.linalg.LinAlgError, Limit) as reason:  # type: ignore[attr-defined]
            width = 1 if knows.schema is None else knows.schema.width
            return replace(nothing(reason, width), labels=torch.zeros(0, dtype=torch.int64))
        finally:
            progress(1.0)

    def _run(self, against: Countermeasures, rng: np.random.Generator, progress: Progress) -> Claim:
        last, knows = against.seen.last, against.knows
        n = last.records
        if not 1 <= n <= self.most_records:
            raise Limit(f"{n} records, the attack tries 1 to {self.most_records}")
        if not single_step(knows, n):
            raise ValueError("features move with every local step, and only a single one leaves their span as it is")
        length = step_length(knows, n)
        if length is None or knows.loss != "cross-entropy":
            raise ValueError("the learning rate is withheld, or the loss is not cross-entropy of classes")
        _check(last)
        network, shrunk = halves(last, knows), decay(knows, n)
        sent = {name: tensor.double() for name, tensor in last.sent.items()}
        left = {name: tensor.double() - shrunk * sent[name] for name, tensor in last.received.items()}
        found, matched = self._searched(against, network, left, length / n, _Work(rng, progress))
        if not len(found.labels):
            why = "; ".join(matched.notes)
            raise ValueError(f"no record could be verified to be behind the update ({why})")
        return self._claim(against, found, matched, rng)

    def _searched(
        self, against: Countermeasures, network: Halves, left: dict[str, Tensor], step: float, work: "_Work"
    ) -> tuple[VerifiedRecords, Claim]:
        """The verified records, and what the rest of the update is matched by best, with notes on why it ended."""
        last, deadline = against.seen.last, clock.seconds() + self.seconds
        n, first = last.records, left[network.names[0][0]]
        floor = math.hypot(against.distortion(last).spread, ROUNDING * float(first.square().mean().sqrt()))
        generator = torch.Generator().manual_seed(int(work.rng.integers(2**63)))
        plain = replace(against.knows, defenses=None, weight_decay=None)
        width = 0 if plain.schema is None else plain.schema.width
        found, matched = VerifiedRecords.none(width), Claim(torch.zeros(0, width), torch.zeros(0))
        for turn in range(self.rounds):
            rest = n - len(found.labels)
            if not rest or clock.seconds() > deadline:
                break
            spans = network.spans(left, rest, floor, generator)
            if spans[0].rank < rest:
                fewer = f"the first dense layer's update has rank {spans[0].rank}, fewer than the {rest} records"
                return found, replace(matched, notes=(fewer,))
            scaled = {name: (tensor * (n / rest)).float() for name, tensor in left.items()}
            one = Observation(against.seen.clients, (Exchange(last.round, last.sent, scaled, rest),))
            share = part(work.progress, turn / self.rounds, (turn + 1) / self.rounds)
            matched = GradientMatching(iterations=self.iterations).run(one, plain, work.rng, share)
            if not len(matched.records):
                break
            blurred = ROUGH * floor * math.sqrt(spans[0].right.shape[1]) / float(spans[0].values[-1])
            search = _Search(network, spans, min(max(WITHIN, blurred), MOST_WITHIN), step)
            more = _verified(search, matched.records.double(), generator)
            if not 0 < len(more.labels) <= rest:
                break
            left = _subtracted(left, network, more, step)
            found = found.and_(more)
            matched = replace(matched, records=matched.records[:0], confidence=matched.confidence[:0], labels=None)
        return found, matched

    def _claim(
        self, against: Countermeasures, found: VerifiedRecords, matched: Claim, rng: np.random.Generator
    ) -> Claim:
        last, knows, notes = against.seen.last, against.knows, list[str]()
        n, known = last.records, len(found.labels)
        others = matched.records
        classes = matched.labels[: len(others)] if matched.labels is not None else torch.zeros(0, dtype=torch.int64)
        records, labels = torch.cat([found.records.float(), others]), torch.cat([found.labels, classes])
        checked = torch.arange(len(records)) < known
        confidence = torch.cat([torch.full((known,), 0.999), 0.5 * matched.confidence[: len(others)]])
        off = None
        if knows.lr is not None:
            off = mismatch(recompute_update(knows, last.sent, records, labels, rng, count=n), last.received)
        if known < n:
            notes.append(f"{known} of {n} records are verified; the rest is what the remaining update matches best")
        checked = checked | explains(off, knows, n)
        return Claim(records, confidence, labels, off, tuple(notes), checked=checked, bound=bound_of(knows))


@dataclass(frozen=True)
class _Work:
    """Randomness and progress of a search."""

    rng: np.random.Generator
    progress: Progress


def _check(last: Exchange) -> None:
    """Raise ValueError for an update that does not have the parameters that were sent, or that is not finite."""
    sent, received = last.sent, last.received
    if sorted(sent) != sorted(received) or any(sent[name].shape != received[name].shape for name in sent):
        raise ValueError("the update does not have the parameters that were sent, as if it were masked or compressed")
    if not all(bool(torch.isfinite(t).all()) for one in (sent, received) for t in one.values()):
        raise ValueError("values are not finite")
    if not any(bool(tensor.any()) for tensor in received.values()):
        raise ValueError("the update is zero")


@dataclass(frozen=True)
class _Search:
    """What a record behind the update must fulfill."""

    network: Halves
    spans: Sequence[Span]
    """Spans of the dense layers' updates."""
    within: float
    """Share of a record's features that may lie outside the first span."""
    step: float
    """Learning rate over the batch's size."""


def _verified(search: _Search, start: Tensor, generator: torch.Generator) -> VerifiedRecords:
    """Records that the search finds from `start` (k, width), or from places near by, and that are behind the update."""
    front, rows = search.network.front, search.spans[0].right
    for spread in SPREADS:
        drawn = torch.randn(start.shape, generator=generator, dtype=start.dtype)
        records, outside = sought(front, rows, start + spread * drawn, STEPS, NEARLY * search.within)
        if float(outside.min()) > HOPELESS:
            break
        new = _distinct(records[outside.argsort()][: int((outside < search.within).sum())])
        if len(new):
            share = shares(search.network.tail, front(new), tuple(search.spans), search.step)
            real = share.counts > 0
            if bool(real.any()):
                return VerifiedRecords(new[real], share.labels[real]).times(share.counts[real])
    return VerifiedRecords.none(start.shape[1])


def _distinct(records: Tensor) -> Tensor:
    """Records (k, width) without repeats, the first of each kept."""
    if not len(records):
        return records
    apart = torch.cdist(records, records) / records.norm(dim=1).clamp_min(1e-12)
    first = (apart < SAME).float().argmax(1)
    return records[first == torch.arange(len(records))]


def _subtracted(update: dict[str, Tensor], network: Halves, found: VerifiedRecords, step: float) -> dict[str, Tensor]:
    """The update without what these records did to it, `step` being the learning rate over the batch's size."""
    whole = nn.Sequential(*network.front, *network.tail).requires_grad_(True)
    value = loss(whole(found.records), found.labels) * len(found.labels)
    names = list(dict(whole.named_parameters()))
    gradients = torch.autograd.grad(value, [dict(whole.named_parameters())[name] for name in names])
    network.front.requires_grad_(False)
    return {name: update[name] + step * one for name, one in zip(names, gradients, strict=True)}
