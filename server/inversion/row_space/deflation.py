"""Subtracts known records from a FedSGD update, so that the others span less and are easier to find."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backward import pass_through
from .spans import Span

WHOLE = 0.1
"""Largest distance from an integer of the number of times that a record is in the batch."""
OUTSIDE = 1e-3
"""Largest share of the length of a record's slopes that may lie outside the update's column space."""


@dataclass(frozen=True)
class Share:
    """Contribution of k records to an update."""

    labels: Tensor
    """Label of each record, int64 (k,)."""
    counts: Tensor
    """Times that each record is in the batch, int64 (k,); 0 where its contribution is not that of a record."""
    parts: tuple[Tensor, ...]
    """Each record's contribution to each linear layer's update, (k, outputs, inputs + 1) a layer."""


def shares(network: nn.Sequential, records: Tensor, spans: tuple[Span, ...], step: float) -> Share:
    """Find labels and counts of records (k, d) that lie in the spans of the first layers' updates.

    `step` is the learning rate over the number of records. A record of label y, m times in the batch, contributes
    -step * m * s_y [h, 1]^T, of rank one, to every layer; `Span.part` gives the factor whose subtraction lowers the
    rank by one.
    """
    passed = pass_through(network, records)
    chances = passed.logits.softmax(1)
    best = max(range(len(spans)), key=lambda i: spans[i].rank)
    classes = chances.shape[1]
    counts, off = [], []
    for c in range(classes):
        residual = chances - torch.nn.functional.one_hot(torch.tensor(c), classes)
        slopes = passed.slopes(best, residual)
        times = -spans[best].part(passed.inputs[best], slopes) / step
        whole = times.round()
        good = ((times - whole).abs() < WHOLE) & (whole >= 1) & (spans[best].outside(slopes) < OUTSIDE)
        counts.append(torch.where(good, whole, 0.0))
        off.append(torch.where(good, (times - whole).abs(), torch.inf))
    labels = torch.stack(off, 1).argmin(1)
    times = torch.stack(counts, 1).gather(1, labels[:, None])[:, 0]
    residual = chances - torch.nn.functional.one_hot(labels, classes)
    parts = tuple(
        -step
        * (times[:, None] * passed.slopes(i, residual))[:, :, None]
        * torch.cat([passed.inputs[i], torch.ones_like(times)[:, None]], 1)[:, None]
        for i in range(len(passed.inputs))
    )
    return Share(labels, times.long(), parts)
