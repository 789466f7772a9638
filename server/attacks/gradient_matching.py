"""Tries batches until gradients agree; needs the architecture."""

import math
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Observation, Progress

from ..countermeasures import ANSWERED, decoded, looked, rounding
from ..inversion.chain import Chain
from ..inversion.labels import as_labels, label_hypotheses, step_length
from ..inversion.matcher import Matching, fades, matching
from ..inversion.noise import NOISY, noise_std, rescaled
from ..inversion.optimize import Descent, Found, Problem, descend, part
from ..inversion.partial import Partial
from ..inversion.pooling import agreement, certainty, determined, pool_by
from ..inversion.presets import Name, Preset, settled
from ..inversion.priors import Prior, group, squares, total_variation
from ..inversion.recompute import mismatch, recompute_update
from ..inversion.refinement import refined
from ..inversion.relaxation import Form, Relaxation, relax
from ..inversion.rounds import same_records
from ..inversion.steps import Rule, Schedule
from ..inversion.unrolled import local_steps

DRAWS = 512
"""Records drawn to estimate the network's mean answer."""
NULL = 4.0
"""Squared cosine that is claimed upon, in multiples of free numbers per parameter.

By chance p numbers explain about p / D of a random vector in D dimensions. Measured on Gaussian updates (batches of 1
to 32, hidden layers of 100 to 512, with and without a schema, 96 runs): 0.01 to 1.45 times that.
"""
NULL_CONVOLUTIONAL = 1.25
"""The same for other networks, of what random batches with the same labels leave unexplained.

A share of an update may be explained by its labels alone, as where the last bias is most of it. Measured on Gaussian
updates, white and with each parameter's length kept (lenet and convnet, with and without batch normalization, images of
8 to 32 pixels, batches of 1 to 16, 46 runs): 0.00 to 0.81 times.
"""
DRAWN_BATCHES = 32
"""Random batches, the best of which tells what labels alone explain."""
BETTER = 0.8
"""The best restart is preferred to the pooled records where it leaves less than this share of their misfit."""


class GradientMatching(Attack):
    """Searches the batch whose gradient is the update; needs the architecture, presets by paper.

    Threat model: an honest-but-curious server that has one update of one client (or one sum of updates) and knows the
    architecture and the loss. It is helped by the schema (ranges, categories, shape of the images: convolutional
    networks need it), the learning rate (the gradient's length and the label counts), the local epochs and batch size,
    and the defenses in use: told of dp-sgd it cuts each record's gradient as the client did, told of noise it takes
    that off before it judges what the update can tell.

    `preset` names the paper whose choices are made; every other key overrides one of them.
    dlg: Zhu et al. 2019, squared distance, L-BFGS, labels searched too (algorithm 1). idlg: Zhao et al. 2020, the
    label read off the last layer. inverting-gradients: Geiping et al. 2020, cosine, signed Adam, total variation,
    box (section 4, equation 4). see-through: Yin et al. 2021, batch normalization statistics and agreement of the
    restarts (equations 5 to 11, without registration). tableak: Vero et al. 2023, softmax and sigmoid relaxation,
    pooled restarts, entropy as confidence (section 4). fedinv, the default: tableak's relaxation with a short decaying
    descent from the schema's marginals, label counts tried; on images inverting-gradients' search, or L-BFGS in the
    box where the network's units saturate.

    It fails where the unknowns outnumber the parameters, where batches are large (several records fit as well as the
    true ones), behind noise, and on sums over many clients. An update of several local steps is matched as one
    large batch's gradient halfway between the weights that were sent and those that came back, which is the less true
    the longer the client trained. Networks with layers of chance (dropout) or of other kinds are refused.
    """

    kind: Literal["gradient-matching"] = "gradient-matching"
    adapts_to: ClassVar[frozenset[str]] = NOISY | ANSWERED
    preset: Name = "fedinv"
    distance: Literal["cosine", "squared"] | None = None
    rule: Rule | None = None
    lr: float | None = Field(default=None, gt=0, le=10)
    schedule: Schedule | None = None
    iterations: int | None = Field(default=None, ge=1, le=100_000)
    restarts: int | None = Field(default=None, ge=1, le=256)
    form: Form | None = None
    """How searched numbers become inputs: always valid records (relaxed), clamped to the range (box), or anything."""
    standardize: bool | None = None
    balance: float | None = Field(default=None, ge=0, le=1)
    start: Literal["schema", "normal"] | None = None
    labels: Literal["counts", "searched"] | None = None
    hypotheses: int | None = Field(default=None, ge=1, le=5)
    pooling: Literal["best", "equal", "weighted"] | None = None
    confidence: Literal["agreement", "entropy"] | None = None
    total_variation: float | None = Field(default=None, ge=0)
    squares: float | None = Field(default=None, ge=0)
    statistics: float | None = Field(default=None, ge=0)
    group: float | None = Field(default=None, ge=0)
    enough: float | None = Field(default=None, ge=0)
    patience: int | None = Field(default=None, ge=0)
    polish: int | None = Field(default=None, ge=0, le=10_000)
    simulate: int | None = Field(default=None, ge=0, le=10_000)
    """Iterations with several local steps simulated one by one, after those on one gradient halfway."""
    join: bool | None = None
    """Whether rounds about the same records are simulated together."""
    work: float | None = Field(default=None, gt=0)
    """Billions of floating-point operations to spend on one observation; fewer restarts, then fewer iterations, where
    the batch and the network are large."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall clock after which the search ends wherever it is: a safety, as results then depend on the machine."""
    most_records: int = Field(default=128, ge=1)
    """Larger batches are not tried."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim as many records as the update covers, or none where the update does not tell them from noise."""
        seen = looked(seen, knows)
        last = seen.last
        try:
            return decoded(self._run(seen, knows, rng, progress), seen, knows, rng)
        except _NothingError as reason:
            progress(1.0)
            return _nothing(last, knows, str(reason))

    def _run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        last = seen.last
        n, width, shape = last.records, _width(last, knows), () if knows.schema is None else knows.schema.shape
        if not 1 <= n <= self.most_records:
            raise _NothingError(f"{n} records, the attack tries 1 to {self.most_records}")
        preset = settled(self.preset, self._changes(), len(shape) == 3, fades(knows))
        device, notes = _device(self.device), []
        length = step_length(knows, n)
        match = _match(last, knows, preset, length, device)
        relaxation = relax(knows.schema, width, preset.form)
        null = NULL if isinstance(match.plain, Chain) else NULL_CONVOLUTIONAL
        chance = null * n * relaxation.freedom / match.parameters
        if chance >= 1:
            raise _NothingError(
                f"{n} records have {n * relaxation.freedom} unknowns, too many for an update of {match.parameters} "
                "numbers"
            )
        noise = math.hypot(noise_std(knows, n), rounding(last, knows))
        truth = 1 - match.parameters * (noise / match.length) ** 2
        if truth < chance:
            raise _NothingError(
                f"the known noise leaves {max(truth, 0.0):.1%} of the update to the truth, and {chance:.1%} is chance"
            )
        if length is None or rescaled(knows, match.length * math.sqrt(truth)):
            length, match = None, _match(last, knows, preset, None, device)
            notes.append("the update's scale is not known: label counts are found by trial")
            if preset.distance == "squared":
                notes.append("the squared distance needs the update's scale: the cosine was used")

        relaxation = relaxation.to(device)
        objective = match.objective
        if isinstance(objective, Partial):  # gradients are written out, at about twice the work
            preset = replace(preset, work=2 * preset.work)
        restarts, how = _scale(preset, objective.flops(n))
        chances = objective.answers(_draw(knows, DRAWS, width, rng).to(device))
        labels, search = _labels(match, preset, chances, n, length, noise, restarts, rng)
        count = len(labels) * n
        begin = _draw(knows, count, width, rng) if preset.start == "schema" else _normal(count, width, rng)
        free = relaxation.free(begin.reshape(len(labels), n, width).to(device))
        problem = Problem(objective, relaxation, _priors(preset, shape), search)
        searched = part(progress, 0, 0.6 if preset.simulate else 0.95)
        found = descend(free, labels.to(device), problem, how, searched, objective.held(n))
        if search == "records":
            found = found.like_best()
        reached = _explained(match, found.inputs[:1], found.labels[:1])
        if not isinstance(match.plain, Chain):
            drawn = _draw(knows, DRAWN_BATCHES * n, width, rng).reshape(-1, n, width).to(device)
            chance += (1 - chance) * _explained(match, drawn, found.labels[:1].expand(len(drawn), -1, -1))
        if reached < chance:
            raise _NothingError(f"the best batch explains {reached:.1%} of the update, up to {chance:.1%} is chance")
        if knows.algorithm != "fedsgd":
            preset = replace(preset, polish=0)
            again = None
            if preset.simulate and search == "records":
                drawn = _draw(knows, DRAWN_BATCHES * n, width, rng).reshape(-1, n, width).to(device)
                rounds = same_records(seen, knows, preset, length, match, found, drawn)
                again = refined(found, rounds, relaxation, knows, length, preset, part(progress, 0.6, 0.95))
            if again is not None:
                found, preset, reached = again.found, replace(preset, pooling="best"), max(reached, again.explained)
            elif local_steps(knows, n) != 1:
                notes.append("several local steps are matched as one gradient of all records, halfway along")
            notes += [] if again is None else again.notes
        claim, explained = _claim(found, match, relaxation, preset, truth, reached)
        if not isinstance(match.plain, Chain):
            claim = replace(claim, confidence=claim.confidence * max(0.0, 1 - (1 - explained / truth) / (1 - chance)))
        progress(1.0)
        return replace(
            claim,
            mismatch=_mismatch(knows, last, claim.records, claim.labels, rng),
            notes=(f"the best batch explains {explained:.1%} of the update", *notes),
        )

    def _changes(self) -> dict[str, object]:
        kept = {"preset", "kind", "most_records", "device"}
        return {k: v for k, v in self if k not in kept and v is not None}


class _NothingError(Exception):
    """Why nothing is claimed."""


def _nothing(last: Exchange, knows: Knowledge, reason: str) -> Claim:
    return Claim(
        records=torch.zeros(0, _width(last, knows)),
        confidence=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.int64),
        notes=(f"nothing claimed: {reason}",),
    )


def _width(last: Exchange, knows: Knowledge) -> int:
    """Network inputs, read off the first weights for want of a schema."""
    if knows.schema is not None:
        return knows.schema.width
    return next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)


def _match(last: Exchange, knows: Knowledge, preset: Preset, length: float | None, device: torch.device) -> Matching:
    try:
        return matching(last, knows, preset, length, device)
    except ValueError as error:
        raise _NothingError(str(error)) from None


def _device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise _NothingError("device cuda was asked for, and there is none")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def _scale(preset: Preset, each: float) -> tuple[int, Descent]:
    """Restarts and iterations that the work allows: at least 4 restarts, then at least 50 iterations."""
    affordable = preset.work * 1e9 / each
    restarts = int(min(preset.restarts, max(4, affordable / preset.iterations)))
    iterations = int(min(preset.iterations, max(50, affordable / restarts)))
    return restarts, Descent(
        iterations, preset.lr, preset.enough, preset.seconds, preset.patience, preset.rule, preset.schedule
    )


def _draw(knows: Knowledge, count: int, width: int, rng: np.random.Generator) -> Tensor:
    """Records from the schema's marginals, standard normal ones where the schema is withheld."""
    return _normal(count, width, rng) if knows.schema is None else knows.schema.draw(count, rng)


def _normal(count: int, width: int, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal((count, width))).float()


def _labels(
    match: Matching,
    preset: Preset,
    chances: Tensor,
    n: int,
    length: float | None,
    noise: float,
    restarts: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Literal["records", "classes", "targets"]]:
    """Labels (restarts, n, outputs) to begin with, and whether they are searched too."""
    outputs = chances.shape[-1]
    if match.objective.loss == "squared-error":
        return _normal(restarts * n, outputs, rng).reshape(restarts, n, outputs), "targets"
    if preset.labels == "searched" or len(match.bias) != outputs:
        return _normal(restarts * n, outputs, rng).reshape(restarts, n, outputs), "classes"
    tried = label_hypotheses(match.bias, chances.cpu(), n, length, noise)[: preset.hypotheses]
    labels = torch.stack([as_labels(tried[i % len(tried)]) for i in range(max(restarts, len(tried)))])
    return one_hot(labels, outputs).float(), "records"


def _priors(preset: Preset, shape: tuple[int, ...]) -> tuple[Prior, ...]:
    priors = []
    if preset.total_variation and len(shape) == 3:
        priors.append(total_variation(preset.total_variation, shape))
    if preset.squares:
        priors.append(squares(preset.squares))
    if preset.group:
        priors.append(group(preset.group))
    return tuple(priors)


def _explained(match: Matching, records: Tensor, labels: Tensor) -> float:
    """Squared cosine of the update and the best gradient of batches (b, n, width) with labels (b, n, outputs)."""
    misfits = match.plain(records, labels)[0]
    return max(0.0, 1 - float(misfits.min())) ** 2


def _claim(
    found: Found, match: Matching, relaxation: Relaxation, preset: Preset, truth: float, reached: float
) -> tuple[Claim, float]:
    """The records, how sure they are, and how much of the update is explained.

    `reached` is what the best restart explained before its categories were made whole, `truth` what is no noise.
    """
    outputs = found.labels.shape[-1]
    classes = found.labels.argmax(-1) if outputs > 1 else torch.zeros_like(found.labels[..., 0]).long()
    pooled = pool_by(preset.pooling, found.inputs, classes, found.misfits, relaxation)
    candidates = relaxation.harden(torch.stack([pooled.records, found.inputs[0]]))
    values = match.plain(candidates, found.labels[:1].expand(2, -1, -1))[0].tolist()
    fits_better = preset.pooling == "weighted" and values[1] < BETTER * values[0]
    records = candidates[int(preset.pooling == "best" or fits_better)]
    if preset.polish:
        records = _polished(records, found.labels[:1], match, relaxation, preset.polish)
        reached = max(reached, _explained(match, records[None], found.labels[:1]))
    if preset.confidence == "entropy":
        fields = certainty(pooled.aligned, pooled.share, relaxation)
    else:
        fields = agreement(pooled.aligned, pooled.share, records, relaxation)
    alone = determined(match.plain.influence(records, found.labels[0]), max(0.0, 1 - reached / truth))
    claim = Claim(
        records=records.cpu(),
        confidence=(fields.mean(1) * alone).clamp(0, 1).cpu(),
        labels=(classes[0] if outputs > 1 else found.labels[0, :, 0]).cpu(),
        fields=fields.cpu(),
    )
    return claim, reached


def _polished(records: Tensor, labels: Tensor, match: Matching, relaxation: Relaxation, evaluations: int) -> Tensor:
    """Records (n, width) whose numbers explain the update better, or the same ones."""
    fixed = Problem(match.plain, relaxation.fixed(records))
    found = descend(records[None], labels, fixed, Descent(evaluations, 1.0, rule="l-bfgs"), lambda _: None)
    return found.inputs[0]


def _mismatch(
    knows: Knowledge, last: Exchange, records: Tensor, labels: Tensor | None, rng: np.random.Generator
) -> float | None:
    if labels is None or labels.is_floating_point():  # only classes can be trained on again
        return None
    try:
        again = recompute_update(knows, last.sent, records, labels, rng)
    except ValueError:
        return None
    return mismatch(again, {name: last.received[name] for name in again})
