"""The steps of gradient matching around its search: budget, starts, labels and priors before, the claim after it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.attack import Claim, Knowledge

from ..labels import as_labels, label_hypotheses
from .matcher import Matching
from .optimize import Descent, Found, Problem, descend
from .pooling import agreement, certainty, determined, pool_by
from .presets import Preset
from .priors import Prior, group, squares, total_variation
from .relaxation import Relaxation

BETTER = 0.8
"""Weighted pooling claims the best restart's records where their misfit is below this share of the pooled ones'."""


def scaled(preset: Preset, each: float) -> tuple[int, Descent]:
    """Restarts and descent that a preset's work allows, one iteration of a restart costing `each` operations.

    At least 4 restarts and 50 iterations, unless the preset has fewer.
    """
    affordable = preset.work * 1e9 / each
    restarts = int(min(preset.restarts, max(4, affordable / preset.iterations)))
    iterations = int(min(preset.iterations, max(50, affordable / restarts)))
    return restarts, Descent(
        iterations, preset.lr, preset.enough, preset.seconds, preset.patience, preset.rule, preset.schedule
    )


def drawn_records(knows: Knowledge, count: int, width: int, rng: np.random.Generator) -> Tensor:
    """Records from the schema's marginals, float32 (count, width); standard normal where the schema is withheld."""
    return normal_records(count, width, rng) if knows.schema is None else knows.schema.draw(count, rng)


def normal_records(count: int, width: int, rng: np.random.Generator) -> Tensor:
    """Standard normal records, float32 (count, width)."""
    return torch.from_numpy(rng.standard_normal((count, width))).float()


@dataclass(frozen=True)
class Batch:
    """The batch behind the last bias' update, as far as label counts depend on it."""

    records: int
    """Number of records in the batch."""
    length: float | None
    """Learning rate summed over the local steps; None where it is not known."""
    noise: float
    """Standard deviation of defenses' noise on each coordinate of the update."""


def likely_labels(
    match: Matching,
    preset: Preset,
    chances: Tensor,
    batch: Batch,
    restarts: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Literal["records", "classes", "targets"]]:
    """Labels (restarts, n, outputs) to start from, and what is searched: "records" alone, or labels with them."""
    n, outputs = batch.records, chances.shape[-1]
    if match.objective.loss == "squared-error":
        return normal_records(restarts * n, outputs, rng).reshape(restarts, n, outputs), "targets"
    if preset.labels == "searched" or len(match.bias) != outputs:
        return normal_records(restarts * n, outputs, rng).reshape(restarts, n, outputs), "classes"
    weighted = match.objective.class_weights
    weights = None if weighted is None else weighted.cpu()
    tried = label_hypotheses(match.bias, chances.cpu(), n, batch.length, batch.noise, weights)[: preset.hypotheses]
    labels = torch.stack([as_labels(tried[i % len(tried)]) for i in range(max(restarts, len(tried)))])
    return one_hot(labels, outputs).float(), "records"


def priors_of(preset: Preset, shape: tuple[int, ...]) -> tuple[Prior, ...]:
    """The priors of a preset for records of this shape; total variation is for images only."""
    priors = []
    if preset.total_variation and len(shape) == 3:
        priors.append(total_variation(preset.total_variation, shape))
    if preset.squares:
        priors.append(squares(preset.squares))
    if preset.group:
        priors.append(group(preset.group))
    return tuple(priors)


def explained_share(match: Matching, records: Tensor, labels: Tensor) -> float:
    """Squared cosine of the update and the best gradient of batches (b, n, width) with labels (b, n, outputs)."""
    misfits = match.plain(records, labels)[0]
    return max(0.0, 1 - float(misfits.min())) ** 2


def claimed(
    found: Found, match: Matching, relaxation: Relaxation, preset: Preset, truth: float, reached: float
) -> tuple[Claim, float]:
    """The claim, and the share of the update that it explains, a squared cosine.

    `reached` is the share that the best restart explained before its categories were made one-hot, `truth` the share of
    the update that is not noise.
    """
    outputs = found.labels.shape[-1]
    classes = found.labels.argmax(-1) if outputs > 1 else torch.zeros_like(found.labels[..., 0]).long()
    pooled = pool_by(preset.pooling, found.inputs, classes, found.misfits, relaxation)
    candidates = relaxation.harden(torch.stack([pooled.records, found.inputs[0]]))
    values = match.plain(candidates, found.labels[:1].expand(2, -1, -1))[0].tolist()
    fits_better = preset.pooling == "weighted" and values[1] < BETTER * values[0]
    records = candidates[int(preset.pooling == "best" or fits_better)]
    if preset.polish:
        records = polished(records, found.labels[:1], match, relaxation, preset.polish)
        reached = max(reached, explained_share(match, records[None], found.labels[:1]))
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


def polished(records: Tensor, labels: Tensor, match: Matching, relaxation: Relaxation, evaluations: int) -> Tensor:
    """The records (n, width) with numbers that explain the update better, categories fixed; or unchanged."""
    fixed = Problem(match.plain, relaxation.fixed(records))
    found = descend(records[None], labels, fixed, Descent(evaluations, 1.0, rule="l-bfgs"), lambda _: None)
    return found.inputs[0]
