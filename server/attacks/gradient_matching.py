"""Searches batches until gradients agree; needs the model."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Limit, Observation, Progress, Watch, nothing
from fedinv.task.models import AnyModel

from ..countermeasures import Countermeasures, answer, answered
from ..inversion.distortion import Distortion
from ..inversion.local_training import local_steps, step_length
from ..inversion.matching.chain import Chain
from ..inversion.matching.claiming import (
    Batch,
    claimed,
    drawn_records,
    explained_share,
    likely_labels,
    normal_records,
    priors_of,
    scaled,
)
from ..inversion.matching.compressed.partial import Partial
from ..inversion.matching.compressed.signs import Signs
from ..inversion.matching.matcher import Matching, fades, matching
from ..inversion.matching.network import matchable
from ..inversion.matching.optimize import Problem, descend, part
from ..inversion.matching.presets import Name, Preset, settled
from ..inversion.matching.refinement import Refinement, joinable, refined, same_records
from ..inversion.matching.relaxation import Form, relax
from ..inversion.matching.steps import Rule, Schedule
from ..inversion.recompute import bound_of, explains, mismatch, recompute_update
from ..inversion.support.reading import trained_again
from ..inversion.support.unrolled import Work

DRAWS = 512
"""Records drawn to estimate the network's mean output probabilities."""
ZERO = 1e-4
"""Share of the learning rate up to which an entry of one adaptive step counts as 0."""
UNROLLED = 30
"""Gauss-Newton steps, at most, through an adaptive optimizer's unrolled steps."""
NULL = 4.0
"""Claim only if the squared cosine exceeds NULL * p / D, p unknowns against D parameters.

By chance p numbers explain about p / D of a random vector in D dimensions. Measured on Gaussian updates (batches of 1
to 32, hidden layers of 100 to 512, with and without a schema, 96 runs): 0.01 to 1.45 times that.
"""
NULL_CONVOLUTIONAL = 1.25
"""The factor for networks other than chains of linear layers; it is applied to the share of the update that random
batches with the same labels leave unexplained.

Labels alone may explain a share of an update, as where the last bias is most of it. Measured on Gaussian updates, white
and with each parameter's length kept (lenet and convnet, with and without batch normalization, images of 8 to 32
pixels, batches of 1 to 16, 46 runs): 0.00 to 0.81 times p / D of that share.
"""
CLOSE = 0.4
"""Mismatch of a claim behind several adaptive steps up to which its numbers are fitted through them: with all
categories right 0.24 to 0.30 is left of the update before the fit, and 1e-4 behind it; from 0.39 on some are wrong, and
no fit explained it (hospital, 8 and 16 records by 8 and 16, five epochs of Adam, twelve claims)."""
DRAWN_BATCHES = 32
"""Random batches drawn with the found labels; the best of them shows what labels alone explain of an update."""


class GradientMatching(Attack):
    """Searches the batch whose gradient is the update; needs the architecture, presets by paper.

    Threat model: an honest-but-curious server that has one update of one client (or one sum of updates) and knows the
    architecture and the loss. It is helped by the schema (ranges, categories, shape of the images: convolutional
    networks need it), the learning rate (the gradient's length and the label counts), the local epochs and batch size,
    and the defenses in use: knowing of dp-sgd it clips each record's gradient as the client did, knowing of noise it
    subtracts its expected length before it judges how much the update reveals.

    Claims: as many records as the update covers, with labels, or none where the best batch explains no more of the
    update than chance.

    Papers: `preset` names the one whose choices are made; every other key overrides one of them.
    dlg: Zhu et al. 2019, squared distance, L-BFGS, labels searched too (algorithm 1). idlg: Zhao et al. 2020, the
    label read off the last layer. inverting-gradients: Geiping et al. 2020, cosine, signed Adam, total variation,
    box (section 4, equation 4). see-through: Yin et al. 2021, batch normalization statistics and agreement of the
    restarts (equations 5 to 11, without registration). tableak: Vero et al. 2023, softmax and sigmoid relaxation,
    pooled restarts, entropy as confidence (section 4). fedinv, the default: tableak's relaxation with a short decaying
    descent from the schema's marginals, label counts tried; on images inverting-gradients' search, or L-BFGS in the
    box where the network's units saturate.

    Behind an adaptive optimizer (adam, adamw, rmsprop) the gradients' signs are matched, which a single step leaves as
    they are and several steps mostly; then, behind ReLU and cross-entropy, the numbers are fitted by Gauss-Newton
    through the optimizer's own unrolled steps (`support.fit`), as far as `simulate` is not 0.

    Fails where the unknowns outnumber the parameters, where batches are large (several records fit as well as the
    true ones), behind noise, and on sums over many clients. Where several local steps cannot be simulated, the update
    is matched as one large batch's gradient halfway between the weights that were sent and those that came back, which
    is less accurate the longer the client trained. Networks with random layers (dropout) or of other kinds are refused.
    """

    kind: Literal["gradient-matching"] = "gradient-matching"
    """Selects this attack: gradient matching."""
    tried_in_turn: ClassVar[int | None] = 30
    known_as: ClassVar[Mapping[str, str]] = {
        "dlg": "gradient-matching:preset=dlg",
        "deep-leakage": "gradient-matching:preset=dlg",
        "deep-leakage-from-gradients": "gradient-matching:preset=dlg",
        "idlg": "gradient-matching:preset=idlg",
        "inverting-gradients": "gradient-matching:preset=inverting-gradients",
        "invertinggradients": "gradient-matching:preset=inverting-gradients",
        "geiping": "gradient-matching:preset=inverting-gradients",
        "see-through": "gradient-matching:preset=see-through",
        "see-through-gradients": "gradient-matching:preset=see-through",
        "gradinversion": "gradient-matching:preset=see-through",
        "tableak": "gradient-matching:preset=tableak",
        "gradient-inversion": "gradient-matching",
    }
    assessed_with: ClassVar[Mapping[str, Any] | None] = {"restarts": 4, "simulate": 100, "work": 10.0}
    adapts_to: ClassVar[frozenset[str]] = answered()
    searches: ClassVar[bool] = True
    preset: Name = "fedinv"
    """Paper whose choices are made where another key is absent: "fedinv", "dlg", "idlg", "inverting-gradients",
    "see-through" or "tableak"."""
    distance: Literal["cosine", "squared"] | None = None
    """Distance between gradients that is minimized: 1 - cosine, or the squared distance relative to the update's
    square, which needs the learning rate."""
    rule: Rule | None = None
    """Optimizer of the search: "signed-adam", "adam" or "l-bfgs"."""
    lr: float | None = Field(default=None, gt=0, le=10)
    """Length of the search's first step in searched numbers, above 0 to 10."""
    schedule: Schedule | None = None
    """Decay of the step length: "cosine" to 0, "steps" to a tenth after 3/8, 5/8 and 7/8, or "constant"."""
    iterations: int | None = Field(default=None, ge=1, le=100_000)
    """Steps of each restart, 1 to 100000; `work` may allow fewer."""
    restarts: int | None = Field(default=None, ge=1, le=256)
    """Starting points that are searched side by side, 1 to 256; `work` may allow fewer."""
    form: Form | None = None
    """How searched numbers become inputs: always valid records ("relaxed"), clamped to the range ("box"), or as they
    are ("free")."""
    standardize: bool | None = None
    """Whether gradients are compared as if the network's inputs were standardized; never done where noise is known."""
    balance: float | None = Field(default=None, ge=0, le=1)
    """Power, 0 to 1, of each parameter's gradient length by which it is divided before the comparison, in networks that
    are no chain of linear layers: at 1 all parameters have the same weight."""
    start: Literal["schema", "normal"] | None = None
    """Where restarts begin: records drawn from the schema's marginals, or standard normal numbers."""
    labels: Literal["counts", "searched"] | None = None
    """How labels are found: as counts read off the last layer's bias, or searched along with the records."""
    hypotheses: int | None = Field(default=None, ge=1, le=5)
    """Label counts that are tried where the likeliest is uncertain, 1 to 5."""
    pooling: Literal["best", "equal", "weighted"] | None = None
    """Which restarts the claim is made of: the best, all with equal weights, or all weighted by their misfit unless the
    best is clearly better."""
    confidence: Literal["agreement", "entropy"] | None = None
    """How each field's confidence is computed: by the restarts' agreement with the claim, or by the entropy of their
    values (Vero et al. 2023)."""
    total_variation: float | None = Field(default=None, ge=0)
    """Weight, 0 or more, of an image's mean absolute difference between neighboring pixels, beside the misfit."""
    squares: float | None = Field(default=None, ge=0)
    """Weight, 0 or more, of the inputs' mean square, beside the misfit."""
    statistics: float | None = Field(default=None, ge=0)
    """Weight, 0 or more, of the distance to the running statistics of batch normalization, beside the misfit."""
    group: float | None = Field(default=None, ge=0)
    """Weight, 0 or more, of each restart's mean squared distance from the mean of all, beside the misfit."""
    enough: float | None = Field(default=None, ge=0)
    """Misfit, 0 or more, below which a restart has arrived; the search stops once one has."""
    patience: int | None = Field(default=None, ge=0)
    """Steps within which the misfits must shrink by about 5 % or the search stops; 0 never stops it."""
    polish: int | None = Field(default=None, ge=0, le=10_000)
    """Evaluations of L-BFGS, 0 to 10000, on the claimed records' numbers with their categories fixed; single step
    only."""
    simulate: int | None = Field(default=None, ge=0, le=10_000)
    """Iterations, 0 to 10000, on the best restart with several local steps simulated one by one, in chains of linear
    layers; 0 leaves it at one gradient halfway."""
    join: bool | None = None
    """Whether rounds in which the client used the same records are simulated together."""
    work: float | None = Field(default=None, gt=0)
    """Billions of floating-point operations to spend on one observation; where batch and network are large, restarts
    are reduced first, then iterations."""
    seconds: float | None = Field(default=None, gt=0)
    """Seconds of computing after which the search stops; a limit that is hit makes results machine-dependent."""
    most_records: int = Field(default=128, ge=1)
    """Records of the largest batch that is attacked, 1 or more; nothing is claimed of larger ones."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the search runs: "auto" uses a GPU if there is one; "cuda" without one claims nothing."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model's layers can be differentiated twice, and draw nothing at random."""
        return matchable(model)

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim as many records as the update covers, or none where the update explains no more than chance."""
        return self._claim(seen, knows, rng, progress, None)

    def watched(
        self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress, watch: Watch
    ) -> Claim:
        """Claim as `run` does; `watch` is called every ten steps of the search with its best restart's records."""
        return self._claim(seen, knows, rng, progress, watch)

    def _claim(
        self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress, watch: Watch | None
    ) -> Claim:
        against = answer(seen, knows)
        try:
            return against.decode(self._run(against, rng, progress, watch), rng)
        except (_NothingError, Limit) as reason:
            progress(1.0)
            empty = nothing(reason, _width(seen.last, knows))
            return replace(empty, labels=torch.zeros(0, dtype=torch.int64))

    def _run(
        self, against: Countermeasures, rng: np.random.Generator, progress: Progress, watch: Watch | None
    ) -> Claim:
        seen, knows, last = against.seen, against.knows, against.seen.last
        n, width, shape = last.records, _width(last, knows), () if knows.schema is None else knows.schema.shape
        if not 1 <= n <= self.most_records:
            raise Limit(f"{n} records, the attack tries 1 to {self.most_records}")
        distortion = _through(against.distortion(last), knows, n)
        preset = settled(self.preset, self._changes(), len(shape) == 3, fades(knows), distortion.only_signs)
        device, notes = _device(self.device), []
        length = None if knows.adaptive else step_length(knows, n)
        given, trained = last, knows
        if knows.adaptive is not None:
            knows = replace(knows, algorithm="fedsgd")
            notes.append("the optimizer leaves the gradients' signs, by which they are matched")
            given = replace(last, received=_signs(last, knows))
        match = _matched(knows, given, distortion, preset, length, device)
        relaxation = relax(knows.schema, width, preset.form)
        null = NULL if isinstance(match.plain, Chain) else NULL_CONVOLUTIONAL
        chance = null * n * relaxation.freedom / match.parameters
        if chance >= 1:
            raise _NothingError(
                f"{n} records have {n * relaxation.freedom} unknowns, too many for an update of {match.parameters} "
                "numbers"
            )
        # rounding keeps signs
        noise = distortion.noise if distortion.only_signs else distortion.spread
        truth = 1 - match.parameters * (noise / match.length) ** 2
        if truth < chance:
            raise _NothingError(
                f"the known noise leaves {max(truth, 0.0):.1%} of the update to the truth, and {chance:.1%} is chance"
            )
        if length is None or distortion.rescales(match.length * math.sqrt(truth)):
            length, match = None, _matched(knows, given, distortion, preset, None, device)
            notes.append("the update's scale is not known: label counts are found by trial")
            if preset.distance == "squared":
                notes.append("the squared distance needs the update's scale: the cosine was used")

        relaxation = relaxation.to(device)
        objective = match.objective
        if isinstance(objective, Partial):  # gradients are written out, at about twice the work
            preset = replace(preset, work=2 * preset.work)
        restarts, how = scaled(preset, objective.flops(n))
        chances = objective.answers(drawn_records(knows, DRAWS, width, rng).to(device))
        labels, search = likely_labels(match, preset, chances, Batch(n, length, noise), restarts, rng)
        count = len(labels) * n
        begin = (
            drawn_records(knows, count, width, rng) if preset.start == "schema" else normal_records(count, width, rng)
        )
        free = relaxation.free(begin.reshape(len(labels), n, width).to(device))
        within = relaxation if match.absent is None else relaxation.without(match.absent)
        annealed = objective if isinstance(objective, Signs) else None
        ranked = objective if annealed is None else match.plain
        problem = Problem(ranked, within, priors_of(preset, shape), search, annealed)
        searched = part(progress, 0, 0.6 if preset.simulate else 0.95)
        found = descend(free, labels.to(device), problem, replace(how, watch=watch), searched, objective.held(n))
        if search == "records":
            found = found.like_best()
        reached = explained_share(match, found.inputs[:1], found.labels[:1])
        if not isinstance(match.plain, Chain):
            drawn = drawn_records(knows, DRAWN_BATCHES * n, width, rng).reshape(-1, n, width).to(device)
            chance += (1 - chance) * explained_share(match, drawn, found.labels[:1].expand(len(drawn), -1, -1))
        if reached < chance:
            raise _NothingError(f"the best batch explains {reached:.1%} of the update, up to {chance:.1%} is chance")
        if knows.algorithm != "fedsgd":
            preset = replace(preset, polish=0)
            again = None
            if preset.simulate and search == "records":
                drawn = drawn_records(knows, DRAWN_BATCHES * n, width, rng).reshape(-1, n, width).to(device)

                def matched(one: Exchange) -> Matching:
                    own = length if one is last or length is None else step_length(knows.at(one.round), n)
                    return matching(one, knows, against.distortion(one), preset, own, device)

                earlier = joinable(seen, knows)[:-1] if preset.join else ()
                rounds = same_records(earlier, (match, last), matched, found, drawn)
                refinement = Refinement(relaxation, knows, length, preset)
                again = refined(found, rounds, refinement, part(progress, 0.6, 0.95))
            if again is not None:
                found, preset, reached = again.found, replace(preset, pooling="best"), max(reached, again.explained)
            elif local_steps(knows, n) != 1:
                notes.append("several local steps are matched as one gradient of all records, halfway along")
            notes += [] if again is None else again.notes
        claim, explained = claimed(found, match, relaxation, preset, truth, reached)
        if not isinstance(match.plain, Chain):
            claim = replace(claim, confidence=claim.confidence * max(0.0, 1 - (1 - explained / truth) / (1 - chance)))
        unrolled = UNROLLED if self.simulate is None else min(self.simulate, UNROLLED)
        if trained.adaptive is not None and unrolled:
            fitted = _unrolled(last, trained, claim, unrolled, Work(rng, part(progress, 0.95, 1)))
            if fitted is not None:
                notes.append("numbers are fitted through the optimizer's own steps")
                progress(1.0)
                return replace(fitted, notes=(f"the best batch explains {explained:.1%} of the update", *notes))
        progress(1.0)
        left = _mismatch(trained, last, claim.records, claim.labels, rng)
        checked = torch.full((len(claim.records),), explains(left, trained, n, max(0.0, 1 - truth)))
        return replace(
            claim,
            mismatch=left,
            checked=checked,
            bound=bound_of(knows),
            notes=(f"the best batch explains {explained:.1%} of the update", *notes),
            fields=None if knows.schema is None else claim.fields,  # by column, which nobody knows without a schema
        )

    def _changes(self) -> dict[str, object]:
        kept = {"preset", "kind", "most_records", "device"}
        return {k: v for k, v in self if k not in kept and v is not None}


def _unrolled(last: Exchange, knows: Knowledge, claim: Claim, iterations: int, work: Work) -> Claim | None:
    """A claim with its numbers fitted through the optimizer's unrolled steps; None where that explains no more."""
    if claim.labels is None or claim.labels.is_floating_point():
        return None
    try:
        before = trained_again(last, knows, claim, 0, work)
        if before.mismatch is None or before.mismatch > CLOSE:
            return None
        again = trained_again(last, knows, claim, iterations, work)
    except (ValueError, torch.linalg.LinAlgError, Limit):  # type: ignore[attr-defined]
        return None
    better = again.mismatch is not None and before.mismatch is not None and again.mismatch < before.mismatch
    return replace(again, fields=claim.fields, confidence=claim.confidence) if better else None


class _NothingError(Exception):
    """Raised with the reason why nothing is claimed."""


def _width(last: Exchange, knows: Knowledge) -> int:
    """Number of the network's inputs, by the schema or else by the first weights; 0 without any."""
    if knows.schema is not None:
        return knows.schema.width
    return next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)


def _through(distortion: Distortion, knows: Knowledge, records: int) -> Distortion:
    """The distortion with what the optimizer did to the gradients: adaptive steps leave little but their signs."""
    if knows.adaptive is None:
        return distortion
    mixed = knows.weight_decay and not _decoupled(knows)
    if mixed or distortion.noise or distortion.masks is not None:
        raise _NothingError(knows.adaptive)
    return replace(distortion, only_signs=True)


def _decoupled(knows: Knowledge) -> float:
    """Weight decay that is no part of the gradients; 0 where there is none."""
    return (knows.weight_decay or 0.0) if knows.optimizer is not None and knows.optimizer.decoupled else 0.0


def _signs(last: Exchange, knows: Knowledge) -> dict[str, Tensor]:
    """The signs of an update of adaptive steps without its decay; 0 where the gradient was, as no record got there.

    A step is about as long as the learning rate wherever there is a gradient, however small. Of several steps the first
    is the longest, so that signs are mostly those of the gradient at the weights that were sent.
    """
    lr, decay = knows.lr or 0.0, _decoupled(knows)
    steps = {name: tensor + lr * (last.sent[name] * decay) for name, tensor in last.received.items()}
    return {name: step.sign() * (step.abs() > ZERO * lr) for name, step in steps.items()}


def _matched(
    knows: Knowledge,
    one: Exchange,
    distortion: Distortion,
    preset: Preset,
    length: float | None,
    device: torch.device,
) -> Matching:
    try:
        return matching(one, knows, distortion, preset, length, device)
    except ValueError as error:
        raise _NothingError(str(error)) from None


def _device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise _NothingError("device cuda was asked for, and there is none")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


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
