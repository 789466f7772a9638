"""Reads the equations of a batch's span off an update, and searches them for records."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedinv.attack import Claim, Exchange, Knowledge, Progress, nothing
from fedinv.task.networks.perceptron import Mlp

from ..activations import Activation
from ..exact.first_layer import ROUNDING, convolution, with_bias
from ..exact.validity import stray
from ..local_training import decay, gradient_weights, known_network, single_step
from ..matching.chain import activation_of
from ..matching.objective import dense_layers
from ..recompute import mismatch, recompute_update
from .attribution import attribute
from .deflation import Share, shares
from .local_search import Block, Equations, InputKinds, input_kinds
from .search import DRIFTED, EXACT, FoundRecords, Precision, SpanBudget, Wanted, aim_apart, find
from .spans import Span, span

SPARE = 4
"""Equations that are asked for beyond a record's numbers: fewer would let anything pass."""
DRIFT = 2
"""Directions granted to each record where several local steps moved what is behind the first layer."""
COARSE = 30.0
"""Noise, in units of float32 rounding, at which an update is no longer taken for exact: it was quantized, or worse."""
MASKED = 100.0
"""An update so many times as long as the model is no update."""
ROOM = 0.7
"""Share of a layer's units that such directions may take."""


@dataclass(frozen=True)
class View:
    """What an exchange shows of a perceptron, in float64."""

    network: nn.Sequential
    """At the weights that were sent, or halfway to those that came back."""
    activation: Activation
    updates: tuple[Tensor, ...]
    """(outputs, inputs + 1) of each linear layer."""
    kinds: InputKinds
    width: int
    single: bool
    """Whether a single step was taken."""
    still: bool
    """Whether its update came as such, and not as a difference of rounded weights."""
    precision: Precision
    noise: float
    spanned: tuple[bool, bool]
    """Whether the rows of the first and the second layer's update span the records: no more of these than units."""

    def spans(self, updates: tuple[Tensor, ...], records: int, generator: torch.Generator) -> tuple[Span, Span]:
        """The spans of the first two layers' updates."""
        drift = records if self.single else min(DRIFT * records, int(ROOM * len(updates[1])))
        ranks = (records, drift)
        first, second = (span(u, r, self.noise, generator) for u, r in zip(updates, ranks, strict=True))
        return first, second

    def equations(self, spans: tuple[Span, Span]) -> Equations:
        """What each record behind these spans must fulfill."""
        rows = [s.equations if told else s.equations[:0] for s, told in zip(spans, self.spanned, strict=True)]
        blocks = (Block(r, r[:0]) for r in rows)
        weight, bias = (p.detach() for p in list(self.network.parameters())[:2])
        return Equations(weight, bias, self.activation, *blocks)


def view(last: Exchange, knows: Knowledge, noise: float) -> View:
    """What an exchange shows of a perceptron, `noise` being the standard deviation of known noise on each number.

    Raises ValueError, in words, for one that cannot be read so.
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
    still = knows.algorithm == "fedsgd"
    single = single_step(knows, last.records)
    network = known_network(model, gradient_weights(last, single, torch.float64))
    if knows.schema is not None:
        noise = max(noise, stray(knows.schema, updates[0]))
    unit = ROUNDING * float(updates[0].square().mean().sqrt())
    precision = EXACT if still and noise < COARSE * unit else DRIFTED
    kinds, room = input_kinds(knows.schema, width), 1.0 if single else ROOM
    spanned = (len(updates[0]) >= last.records, room * len(updates[1]) >= last.records)
    return View(network, activation, updates, kinds, width, single, still, precision, noise, spanned)


def check_enough(view: View, spans: tuple[Span, Span]) -> None:
    """Raise ValueError unless the equations tell a record from anything else."""
    free, numbers = 0, len(view.kinds.numbers)
    for update, one, spanned, given in zip(
        view.updates, spans, view.spanned, (len(view.kinds.groups), 0), strict=False
    ):
        if not one.rank:
            raise ValueError("the update does not stand above the noise in it")
        # inputs that no record has, and one-hot groups that sum to 1, hold for anything
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
            raise ValueError(f"{last.records} records, the attack tries 1 to {budget.most_records}")
        claim = _searched(view(last, knows, noise), last, knows, budget, rng, progress)
    except (ValueError, torch.linalg.LinAlgError) as reason:  # type: ignore[attr-defined]
        width = next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)
        claim = nothing(str(reason), width)
    progress(1.0)
    return claim


def _searched(
    seen: View, last: Exchange, knows: Knowledge, budget: SpanBudget, rng: np.random.Generator, progress: Progress
) -> Claim:
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    spans = seen.spans(seen.updates[:2], last.records, generator)
    equations = seen.equations(spans)
    check_enough(seen, spans)
    step = knows.lr / last.records if seen.still and knows.lr is not None else None

    def aim(known: Tensor) -> Equations:
        if step is None or not len(known):
            return aim_apart(equations, spans, known, last.records)
        share = shares(seen.network, known, spans, step)
        rest = tuple(u - p.sum(0) for u, p in zip(seen.updates[:2], share.parts[:2], strict=True))
        left = seen.spans(rest, max(1, last.records - int(share.counts.sum())), generator)
        return aim_apart(seen.equations(left), left, known[share.counts == 0], last.records)

    def draw(count: int) -> Tensor:
        if knows.schema is None:
            return torch.from_numpy(rng.standard_normal((count, seen.width))).float()
        return knows.schema.draw(count, rng)

    def believe(records: Tensor) -> Tensor:
        # at the inputs alone, sums of records may pass for records
        if step is None or seen.spanned[1] or not len(records):
            return torch.ones(len(records), dtype=torch.bool)
        return shares(seen.network, records, spans, step).counts > 0

    wanted = Wanted(equations, aim, believe, draw, seen.kinds, last.records, seen.precision)
    found = find(wanted, budget, progress)
    if not len(found.records):
        raise ValueError("no record was found in the spans of the update")
    share = None if step is None else shares(seen.network, found.records, spans, step)
    return _claim(found, share, seen, last, knows, rng)


def _claim(
    found: FoundRecords,
    share: Share | None,
    seen: View,
    last: Exchange,
    knows: Knowledge,
    rng: np.random.Generator,
) -> Claim:
    """The claim of the records that were found, with their labels and confidences."""
    records = found.records
    confidence, labels, notes = (
        (1 - found.misfit) / (1 if seen.spanned[1] or share else 2),
        attribute(seen.network, records, seen.updates),
        [],
    )
    distinct = len(records)
    if share is not None:
        told = share.counts > 0
        confidence = torch.where(told, confidence, confidence / 2)
        labels = share.labels if labels is None else torch.where(told, share.labels, labels)
        again = share.counts.clamp_min(1)
        again = torch.where(again.cumsum(0) <= last.records, again, 0)
        records, confidence, labels = (t.repeat_interleave(again, 0) for t in (records, confidence, labels))
        if len(records) > distinct:
            notes.append(f"{distinct} distinct records stand for {len(records)}")
    if len(records) < last.records:
        notes.append(f"{len(records)} of {last.records} records recovered")
    if not seen.single:
        notes.append("several local steps blur the spans behind the first layer: numbers are approximate")
    claim = Claim(records.float(), confidence.float().clamp(0, 1), labels, notes=tuple(notes))
    if labels is None:
        return claim
    try:
        update = recompute_update(knows, last.sent, claim.records, labels, rng, count=last.records)
    except ValueError:
        return claim
    return replace(claim, mismatch=mismatch(update, last.received))
