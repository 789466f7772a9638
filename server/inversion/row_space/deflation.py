"""Subtracts known records from the update of one step, so that the others span less and are easier to find."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backward import Passed, pass_through
from .spans import Span

WHOLE = 0.1
"""Largest distance from an integer of the number of times that a record is in the batch."""
CLOSE = 0.01
"""The same where the length of the step was measured: one of several steps may look like a single one."""
OUTSIDE = 1e-3
"""Largest share of the length of a record's slopes that may lie outside the update's column space."""


FEWEST = 4
"""Fewest records by which the length of a step is measured."""
SAME = 1e-3
"""Largest relative distance from the measured length at which a record counts for it: float32 rounding leaves 1e-5 at
learning rate 0.1, a second step 1e-2."""
AGREE = 0.5
"""Least share of the records that must agree on the length of a step."""


@dataclass(frozen=True)
class Share:
    """Contribution of k records to an update."""

    labels: Tensor
    """Label of each record, int64 (k,)."""
    counts: Tensor
    """Times that each record is in the batch, int64 (k,); 0 where its contribution is not that of a record."""
    parts: tuple[Tensor, ...]
    """Each record's contribution to each linear layer's update, (k, outputs, inputs + 1) a layer."""


def measured_step(network: nn.Sequential, records: Tensor, spans: tuple[Span, ...]) -> float | None:
    """Learning rate over the number of records of a single step, as the records (k, d) known of it tell.

    A record once in the batch contributes -step * s_y [h, 1]^T; the factor by which the rank is lowered is the step for
    its own label, the one whose slopes lie in the column space and whose factor is positive. None where fewer than
    FEWEST records, or less than AGREE of them, agree on a length, as where classes count by weights.
    """
    factors, outside = _by_label(pass_through(network, records), spans)
    apart, label = torch.where(factors > 0, outside, torch.inf).min(1)
    own = factors.gather(1, label[:, None])[:, 0][apart < torch.inf]
    if len(own) < FEWEST:
        return None
    length = own.median()
    agree = int(((own / length - 1).abs() < SAME).sum())
    return float(length) if agree >= max(FEWEST, AGREE * len(records)) else None


def shares(
    network: nn.Sequential, records: Tensor, spans: tuple[Span, ...], step: float, whole: float = WHOLE
) -> Share:
    """Find labels and counts of records (k, d) that lie in the spans of the first layers' updates.

    `step` is the learning rate over the number of records, `whole` how far counts may be from integers. A record of
    label y, m times in the batch, contributes -step * m * s_y [h, 1]^T, of rank one, to every layer; `Span.part` gives
    the factor whose subtraction lowers the rank by one.
    """
    passed = pass_through(network, records)
    factors, outside = _by_label(passed, spans)
    times = factors / step
    nearest = times.round()
    good = ((times - nearest).abs() < whole) & (nearest >= 1) & (outside < OUTSIDE)
    labels = torch.where(good, (times - nearest).abs(), torch.inf).argmin(1)
    times = torch.where(good, nearest, 0.0).gather(1, labels[:, None])[:, 0]
    chances = passed.logits.softmax(1)
    residual = chances - torch.nn.functional.one_hot(labels, chances.shape[1])
    parts = tuple(
        -step
        * (times[:, None] * passed.slopes(i, residual))[:, :, None]
        * torch.cat([passed.inputs[i], torch.ones_like(times)[:, None]], 1)[:, None]
        for i in range(len(passed.inputs))
    )
    return Share(labels, times.long(), parts)


def _by_label(passed: Passed, spans: tuple[Span, ...]) -> tuple[Tensor, Tensor]:
    """For each label of each record the factor whose subtraction lowers the rank, (k, classes), positive for its own.

    The second is the share of its slopes that lies outside the column space, (k, classes). Both are those of the layer
    of the largest rank.
    """
    layer = max(range(len(spans)), key=lambda i: spans[i].rank)
    chances = passed.logits.softmax(1)
    slopes = [passed.slopes(layer, chances - truth) for truth in torch.eye(chances.shape[1], dtype=chances.dtype)]
    factors = torch.stack([-spans[layer].part(passed.inputs[layer], one) for one in slopes], 1)
    return factors, torch.stack([spans[layer].outside(one) for one in slopes], 1)
