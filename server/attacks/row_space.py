"""Finds each record alone in the spans; needs the architecture."""

import math
import time
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Observation, Progress
from fedinv.task.models import load
from fedinv.task.networks.perceptron import Mlp

from ..countermeasures import answered, decoded, granted, looked, rounding
from ..inversion.activations import Activation
from ..inversion.attribution import attribute
from ..inversion.chain import activation_of
from ..inversion.deflation import Share, shares
from ..inversion.first_layer import ROUNDING, convolution, decay, joined
from ..inversion.local_search import Block, Equations, Form, form
from ..inversion.noise import NOISY, noise_std
from ..inversion.objective import dense_layers
from ..inversion.recompute import mismatch, recompute_update
from ..inversion.row_space import DRIFTED, EXACT, Precision, Search, aim_apart, find
from ..inversion.spans import Span, span
from ..inversion.validity import stray

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
    adapts_to: ClassVar[frozenset[str]] = NOISY | answered("look", "rounding", "decode", "unsteady", "any_record")
    starts: int = Field(default=4, ge=1, le=1000)
    """Records drawn in a round for each one still wanted; twice as many after each round that finds nothing."""
    rounds: int = Field(default=8, ge=1, le=1000)
    """Rounds without a new record after which the search ends."""
    seconds: float = Field(default=60.0, gt=0)
    """Wall clock after which no further round begins: a safety, as results then depend on the machine."""
    most_records: int = Field(default=512, ge=1, le=4096)
    """Larger batches are not tried."""

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the records whose equations hold, and say in the notes why others are missing."""
        seen = looked(seen, knows)
        return decoded(self.search(seen, granted(knows), rng, progress), seen, knows, rng)

    def search(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records in the update's spans, whatever training did to them before."""
        last = seen.last
        try:
            if not 1 <= last.records <= self.most_records:
                raise ValueError(f"{last.records} records, the attack tries 1 to {self.most_records}")
            claim = self._run(_view(last, knows), last, knows, rng, progress)
        except (ValueError, torch.linalg.LinAlgError) as reason:  # type: ignore[attr-defined]
            width = next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)
            claim = Claim(torch.zeros(0, width), torch.zeros(0), notes=(f"nothing claimed: {reason}",))
        progress(1.0)
        return claim

    def _run(
        self, view: "_View", last: Exchange, knows: Knowledge, rng: np.random.Generator, progress: Progress
    ) -> Claim:
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        spans = view.spans(view.updates[:2], last.records, generator)
        equations = view.equations(spans)
        _check_enough(view, spans)
        step = knows.lr / last.records if view.still and knows.lr is not None else None

        def aim(known: Tensor) -> Equations:
            if step is None or not len(known):
                return aim_apart(equations, spans, known, last.records)
            share = shares(view.network, known, spans, step)
            rest = tuple(u - p.sum(0) for u, p in zip(view.updates[:2], share.parts[:2], strict=True))
            left = view.spans(rest, max(1, last.records - int(share.counts.sum())), generator)
            return aim_apart(view.equations(left), left, known[share.counts == 0], last.records)

        def draw(count: int) -> Tensor:
            if knows.schema is None:
                return torch.from_numpy(rng.standard_normal((count, view.width))).float()
            return knows.schema.draw(count, rng)

        def believe(records: Tensor) -> Tensor:
            # at the inputs alone, sums of records may pass for records
            if step is None or view.spanned[1] or not len(records):
                return torch.ones(len(records), dtype=torch.bool)
            return shares(view.network, records, spans, step).counts > 0

        search = Search(self.starts, self.rounds, time.monotonic() + self.seconds)
        found = find(equations, aim, believe, view.form, draw, last.records, view.precision, search, progress)
        if not len(found.records):
            raise ValueError("no record was found in the spans of the update")
        share = None if step is None else shares(view.network, found.records, spans, step)
        return _claim(found.records, found.misfit, share, view, last, knows, rng)


@dataclass(frozen=True)
class _View:
    """What an exchange shows of a perceptron, in float64."""

    network: nn.Sequential
    """At the weights that were sent, or halfway to those that came back."""
    activation: Activation
    updates: tuple[Tensor, ...]
    """(outputs, inputs + 1) of each linear layer."""
    form: Form
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


def _view(last: Exchange, knows: Knowledge) -> _View:
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
    updates = tuple(joined(last.received, w, b) - shrunk * joined(last.sent, w, b) for w, b in pairs)
    if not all(bool(u.any()) for u in updates):
        raise ValueError("the update is zero")
    still = knows.algorithm == "fedsgd"
    single = still or (knows.epochs == 1 and (knows.batch_size or 0) >= last.records)
    halfway = 0.0 if single else 0.5
    weights = {name: t.double() + halfway * last.received[name].double() for name, t in last.sent.items()}
    try:
        network = load(model, (width,), len(layers[-1].bias), weights)
    except RuntimeError as error:
        raise ValueError("the weights that were sent are not of the architecture that is known") from error
    noise = math.hypot(noise_std(knows, last.records), rounding(last, knows))
    if knows.schema is not None:
        noise = max(noise, stray(knows.schema, updates[0]))
    unit = ROUNDING * float(updates[0].square().mean().sqrt())
    precision = EXACT if still and noise < COARSE * unit else DRIFTED
    shape, room = form(knows.schema, width), 1.0 if single else ROOM
    spanned = (len(updates[0]) >= last.records, room * len(updates[1]) >= last.records)
    return _View(network, activation, updates, shape, width, single, still, precision, noise, spanned)


def _check_enough(view: _View, spans: tuple[Span, Span]) -> None:
    """Raise ValueError unless the equations tell a record from anything else."""
    free = 0
    for update, one, spanned, given in zip(view.updates, spans, view.spanned, (len(view.form.groups), 0), strict=False):
        if not one.rank:
            raise ValueError("the update does not stand above the noise in it")
        # inputs that no record has, and one-hot groups that sum to 1, hold for anything
        free += spanned * max(0, int(update[:, :-1].any(0).sum()) + 1 - one.rank - given)
    if free < len(view.form.numbers) + SPARE:
        raise ValueError(
            f"the update's spans leave {free} equations for the {len(view.form.numbers)} numbers of a record: too many "
            "records for the network's width"
        )


def _claim(
    records: Tensor,
    misfit: Tensor,
    share: Share | None,
    view: _View,
    last: Exchange,
    knows: Knowledge,
    rng: np.random.Generator,
) -> Claim:
    """The claim of records (k, d), surest first, with their misfits (k,) as shares of what is accepted."""
    confidence, labels, notes = (
        (1 - misfit) / (1 if view.spanned[1] or share else 2),
        attribute(view.network, records, view.updates),
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
    if not view.single:
        notes.append("several local steps blur the spans behind the first layer: numbers are approximate")
    claim = Claim(records.float(), confidence.float().clamp(0, 1), labels, notes=tuple(notes))
    if labels is None:
        return claim
    try:
        update = recompute_update(knows, last.sent, claim.records, labels, rng, count=last.records)
    except ValueError:
        return claim
    return replace(claim, mismatch=mismatch(update, last.received))
