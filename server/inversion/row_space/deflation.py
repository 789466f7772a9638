"""Takes records that are known out of a FedSGD update, so that the others span less and are easier to find."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backward import pass_through
from .spans import Span

WHOLE = 0.1
"""How far a record's part in the update may be from a whole number of records."""
OUTSIDE = 1e-3
"""Share of a record's slopes that may lie outside the update's column space."""


@dataclass(frozen=True)
class Share:
    """What records have to do with an update; k of them."""

    labels: Tensor
    """(k,) int64."""
    counts: Tensor
    """(k,) int64: how often each is in the batch, 0 where its part in the update is not that of a record."""
    parts: tuple[Tensor, ...]
    """Of each linear layer's update, the records' parts (k, outputs, inputs + 1)."""


def shares(network: nn.Sequential, records: Tensor, spans: tuple[Span, ...], step: float) -> Share:
    """Find labels and counts of records (k, d) which lie in the spans of the first layers' updates.

    `step` is the learning rate over the number of records. A record of label y, m times in the batch, is the rank-one
    part -step * m * s_y [h, 1]^T of every layer; Span.part tells the factor that takes one rank away.
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
