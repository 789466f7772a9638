"""Derives the equations that each record must fulfill from an update's spans, and searches records that do."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedinv.attack import Claim, Exchange, Knowledge, Limit, Progress, nothing
from fedinv.task.networks.perceptron import Mlp

from ..activations import Activation
from ..exact.first_layer import ROUNDING, convolution, with_bias
from ..exact.validity import stray
from ..local_training import decay, gradient_weights, known_network, single_step, step_length
from ..matching.chain import activation_of
from ..matching.objective import dense_layers
from ..recompute import explains, mismatch, recompute_update
from .attribution import attribute
from .deflation import CLOSE, WHOLE, Share, measured_step, shares
from .encoded import read_encoded
from .local_search import Block, Equations, InputKinds, input_kinds
from .search import DRIFTED, EXACT, Aim, FoundRecords, Precision, SpanBudget, Wanted, aim_at_unexplained, find
from .slopes import CLEARLY, DECOYS, RATHER, slopes_apart
from .spans import Span, span

SPARE = 4
"""Equations required beyond the number of a record's unknowns: with fewer, wrong records would fulfill them."""
DRIFT = 2
"""After several local steps each record contributes up to this many directions to the second layer's span."""
COARSE = 30.0
"""Noise, in multiples of float32 rounding, from which on an update does not count as exact: it was quantized at least.
"""
MASKED = 100.0
"""An update whose norm exceeds the model's by this factor counts as masked and is refused."""
WELL = 0.6
"""Confidence above which a record of several local steps counts as checked where the schema, whose categories it must
have, is known, and its slopes fit rather well: its misfit is less than 0.4 of what is accepted. A third to nine tenths
of the true records are above, and half of the wrong ones (hospital, 200 to 320 records)."""
ROOM = 0.7
"""Largest share of the second layer's units that the span may fill after several local steps."""


@dataclass(frozen=True)
class View:
    """An exchange as the update of a perceptron, in float64."""

    network: nn.Sequential
    """The network at the weights that were sent, or after several steps halfway to the client's."""
    activation: Activation
    updates: tuple[Tensor, ...]
    """Update of each linear layer with the bias as last column, (outputs, inputs + 1) a layer."""
    kinds: InputKinds
    width: int
    """Number of the network's inputs."""
    single: bool
    """Whether the client took a single step on all its records."""
    lossless: bool
    """Whether the update is a gradient of FedSGD, and not a difference of rounded weights."""
    precision: Precision
    """Misfits at which records are accepted."""
    noise: float
    """Standard deviation of known noise on each number of the update."""
    spanned: tuple[bool, bool]
    """Whether the first and the second layer have units enough for their update's rows to span all records."""

    def spans(self, updates: tuple[Tensor, ...], records: int, generator: torch.Generator) -> tuple[Span, Span]:
        """The spans of the first two layers' updates."""
        drift = records if self.single else min(DRIFT * records, int(ROOM * len(updates[1])))
        ranks = (records, drift)
        first, second = (span(u, r, self.noise, generator) for u, r in zip(updates, ranks, strict=True))
        return first, second

    def equations(self, spans: tuple[Span, Span]) -> Equations:
        """The equations that each record in these spans must fulfill."""
        rows = [s.equations if spanned else s.equations[:0] for s, spanned in zip(spans, self.spanned, strict=True)]
        blocks = (Block(r, r[:0]) for r in rows)
        weight, bias = (p.detach() for p in list(self.network.parameters())[:2])
        return Equations(weight, bias, self.activation, *blocks)


def view(last: Exchange, knows: Knowledge, noise: float) -> View:
    """The view of an exchange, with known noise of standard deviation `noise` on each number of its update.

    Raises ValueError with the reason for an exchange that cannot be attacked by spans.
    """
    model = knows.model
    activation = activation_of(model)
    if last.sent and next(iter(last.sent.values())).ndim == 4:
        raise ValueError(convolution(last, knows))
    if knows.loss == "squared-error":
        raise ValueError("the label is a number, and labels are told here for classes only")
    if activation is None or not isinstance(model, Mlp):
        raise ValueError("the architecture is withheld, or is no perceptron with a hidden layer")
    if sorted(last.sent) != sorted(last.received) or any(
        last.sent[n].shape != t.shape for n, t in last.received.items()
    ):
        raise ValueError("the update does not have the parameters that were sent, as if it were masked or compressed")
    tensors = (*last.sent.values(), *last.received.values())
    if not all(bool(torch.isfinite(t).all()) for t in tensors):
        raise ValueError("the update or the model holds values that are not finite")
    sizes = [
        math.sqrt(sum(float(t.double().square().sum()) for t in side.values())) for side in (last.sent, last.received)
    ]
    if sizes[1] > MASKED * max(1.0, sizes[0]):
        raise ValueError("the update is far larger than the model, as if it were masked")
    layers = dense_layers(last.sent)
    width = layers[0].weight.shape[1]
    if knows.schema is not None and knows.schema.width != width:
        raise ValueError("the schema does not fit the network's inputs")
    names = list(last.sent)
    pairs = list(zip(names[::2], names[1::2], strict=True))
    shrunk = decay(knows, last.records)
    updates = tuple(with_bias(last.received, w, b) - shrunk * with_bias(last.sent, w, b) for w, b in pairs)
    if not all(bool(u.any()) for u in updates):
        raise ValueError("the update is zero")
    lossless = knows.algorithm == "fedsgd"
    single = single_step(knows, last.records)
    network = known_network(model, gradient_weights(last, single, torch.float64))
    if knows.schema is not None:
        noise = max(noise, stray(knows.schema, updates[0]))
    unit = ROUNDING * float(updates[0].square().mean().sqrt())
    precision = EXACT if lossless and noise < COARSE * unit else DRIFTED
    kinds, room = input_kinds(knows.schema, width), 1.0 if single else ROOM
    spanned = (len(updates[0]) >= last.records, room * len(updates[1]) >= last.records)
    return View(network, activation, updates, kinds, width, single, lossless, precision, noise, spanned)


def check_enough(view: View, spans: tuple[Span, Span]) -> None:
    """Raise ValueError unless there are SPARE more equations than a record has unknown numbers."""
    free, numbers = 0, len(view.kinds.numbers)
    for update, one, spanned, given in zip(
        view.updates, spans, view.spanned, (len(view.kinds.groups), 0), strict=False
    ):
        if not one.rank:
            raise ValueError("the update does not stand above the noise in it")
        # equations on inputs that are 0 in all records, and on one-hot groups' sums, hold for wrong records too
        free += spanned * max(0, int(update[:, :-1].any(0).sum()) + 1 - one.rank - given)
    if free < numbers + SPARE:
        raise ValueError(
            f"the update's spans leave {free} equations for the {numbers} numbers of a record: too many "
            "records for the network's width"
        )


def read_records(
    last: Exchange,
    knows: Knowledge,
    noise: float,
    budget: SpanBudget,
    rng: np.random.Generator,
    progress: Progress,
) -> Claim:
    """Claim the records in the spans of an exchange's update, none where it cannot be read, with the reason as a note.

    `noise` is the standard deviation of known noise on each number of the update.
    """
    try:
        if not 1 <= last.records <= budget.most_records:
            raise Limit(f"{last.records} records, the attack tries 1 to {budget.most_records}")
        if knows.model is not None and knows.model.encodes:
            claim = read_encoded(last, knows, noise, budget, rng, progress)
        else:
            claim = _searched(view(last, knows, noise), last, knows, budget, rng, progress)
    except (ValueError, torch.linalg.LinAlgError, Limit) as reason:  # type: ignore[attr-defined]
        width = next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)
        claim = nothing(reason, width)
    progress(1.0)
    return claim


def _searched(
    seen: View, last: Exchange, knows: Knowledge, budget: SpanBudget, rng: np.random.Generator, progress: Progress
) -> Claim:
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    spans = seen.spans(seen.updates[:2], last.records, generator)
    equations = seen.equations(spans)
    check_enough(seen, spans)
    # with class weights a record's share is not that of a whole number of records
    length = step_length(knows, last.records) if seen.lossless and not knows.class_weights else None
    step = None if length is None else length / last.records

    def aim(known: Tensor, idle: int) -> Aim:
        length, whole, checked = step, WHOLE, step is not None and not seen.spanned[1]
        # several steps may look like a single one, of which records leave more than a rest of lower rank
        if length is None and seen.single and len(known) and not idle % 2:
            length = measured_step(seen.network, known, spans)
            whole, checked = CLOSE, length is not None

        def believe(records: Tensor) -> Tensor:
            # where only the inputs have equations, sums of records fulfill them too
            if length is None or not checked or not len(records):
                return torch.ones(len(records), dtype=torch.bool)
            return shares(seen.network, records, spans, length, whole).counts > 0

        if length is None or not len(known):
            return Aim(aim_at_unexplained(equations, spans, known, last.records), believe)
        share = shares(seen.network, known, spans, length, whole)
        rest = tuple(u - p.sum(0) for u, p in zip(seen.updates[:2], share.parts[:2], strict=True))
        left = seen.spans(rest, max(1, last.records - int(share.counts.sum())), generator)
        unknown = aim_at_unexplained(seen.equations(left), left, known[share.counts == 0], last.records)
        return Aim(unknown, believe)

    def draw(count: int) -> Tensor:
        if knows.schema is None:
            return torch.from_numpy(rng.standard_normal((count, seen.width))).float()
        return knows.schema.draw(count, rng)

    wanted = Wanted(equations, aim, draw, seen.kinds, last.records, seen.precision)
    found = find(wanted, budget, progress)
    if not len(found.records):
        raise ValueError("no record was found in the spans of the update")
    share = None if step is None else shares(seen.network, found.records, spans, step)
    apart = slopes_apart(seen.network, found.records, draw(DECOYS).double(), spans, last.records)
    return _claim(found, apart, share, seen, last, knows, rng)


def _claim(
    found: FoundRecords,
    apart: Tensor,
    share: Share | None,
    seen: View,
    last: Exchange,
    knows: Knowledge,
    rng: np.random.Generator,
) -> Claim:
    """The claim of the records that were found, with labels, confidences and the mismatch."""
    records = found.records
    confidence, labels, notes = (
        (1 - found.misfit) / (1 if seen.spanned[1] or share else 2),
        attribute(seen.network, records, seen.updates),
        [],
    )
    distinct, again = len(records), torch.ones(len(records), dtype=torch.int64)
    if share is not None:
        in_batch = share.counts > 0
        confidence = torch.where(in_batch, confidence, confidence / 2)
        labels = share.labels if labels is None else torch.where(in_batch, share.labels, labels)
        again = share.counts.clamp_min(1)
        again = torch.where(again.cumsum(0) <= last.records, again, 0)
        records, confidence, labels = (t.repeat_interleave(again, 0) for t in (records, confidence, labels))
        if len(records) > distinct:
            notes.append(f"{distinct} distinct records stand for {len(records)}")
    if len(records) < last.records:
        notes.append(f"{len(records)} of {last.records} records recovered")
    if not seen.single:
        notes.append("several local steps blur the spans behind the first layer: numbers are approximate")
    fit = apart < CLEARLY
    if share is not None:
        fit = fit | (share.counts > 0)
    elif knows.schema is not None and seen.spanned[1]:
        fit = fit | ((1 - found.misfit > WELL) & (apart < RATHER))
    checked = fit.repeat_interleave(again, 0)
    claim = Claim(records.float(), confidence.float().clamp(0, 1), labels, None, tuple(notes), checked=checked)
    claim = _compared(claim, last, knows, rng)
    # blurred equations and free numbers: blends of records fulfill them too
    return _sifted(claim, last, knows, rng) if knows.schema is None and seen.precision is DRIFTED else claim


def _sifted(claim: Claim, last: Exchange, knows: Knowledge, rng: np.random.Generator) -> Claim:
    """The claim of those records that are verified. Raises ValueError where none is."""
    good = claim.verified
    if bool(good.all()):
        return claim
    if not bool(good.any()):
        raise ValueError(
            f"the update is blurred and the schema withheld: {len(good)} candidates fulfill the equations, but neither "
            "do their slopes lie in its column space, nor do they, trained on again, explain it"
        )
    kept = Claim(
        claim.records[good],
        claim.confidence[good],
        None if claim.labels is None else claim.labels[good],
        notes=(*claim.notes, f"{len(good) - int(good.sum())} records that could not be verified are withheld"),
        checked=good[good],
    )
    return _compared(kept, last, knows, rng)


def _compared(claim: Claim, last: Exchange, knows: Knowledge, rng: np.random.Generator) -> Claim:
    """The claim with the mismatch of the update that it gives, and all of it checked if that explains the one seen."""
    if claim.labels is None:
        return claim
    try:
        update = recompute_update(knows, last.sent, claim.records, claim.labels, rng, count=last.records)
    except ValueError:
        return claim
    left = mismatch(update, last.received)
    checked = torch.ones(len(claim.records), dtype=torch.bool) if explains(left, knows, last.records) else claim.checked
    return replace(claim, mismatch=left, checked=checked)
