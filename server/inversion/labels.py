"""Counts how many records of each class a batch held, from the last layer's bias update."""

import numpy as np
import torch
from torch import Tensor

HYPOTHESES = 5
"""Label counts that are returned at most."""


def label_counts(gradient: Tensor, chances: Tensor, records: int, class_weights: Tensor | None = None) -> Tensor:
    """Records per class, int64 (classes,), from the last bias' gradient and the mean softmax, both (classes,).

    The gradient is mean softmax less share of the class: counts = records * (chances - gradient), rounded so that they
    add up. For one record the class is the one with the only negative entry (Zhao et al. 2020, iDLG, section 3.1);
    for more see Yin et al. 2021, section 3.1, Geng et al. 2021 and Wainakh et al. 2022. With `class_weights` w a class
    counts w times: its share is that of weighted records, whose number follows from that of the records.
    """
    if records == 1:
        return torch.nn.functional.one_hot(gradient.argmin(), len(gradient))
    wanted = _wanted(gradient.double(), chances.double(), records, class_weights).clamp(0, records)
    if not float(wanted.sum()) > 0:
        wanted = chances.double()
    wanted = wanted * (records / wanted.sum())
    counts = wanted.floor()
    missing = records - int(counts.sum())
    counts[(wanted - counts).argsort(descending=True, stable=True)[:missing]] += 1
    return counts.long()


def _wanted(gradient: Tensor, chances: Tensor, records: int, class_weights: Tensor | None) -> Tensor:
    """The counts before rounding: w_k n_k = s chances_k - records * gradient_k, s being the sum of all w_k n_k."""
    if class_weights is None:
        return records * (chances - gradient)
    weights = class_weights.double()
    total = records * (1 + (gradient / weights).sum()) / (chances / weights).sum()
    return (total * chances - records * gradient) / weights


def label_hypotheses(
    update: Tensor,
    chances: Tensor,
    records: int,
    length: float | None,
    noise: float = 0.0,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Plausible counts per class, likeliest first, from the last bias' update (classes,).

    `chances` (draws, classes) are the network's probabilities for records drawn from the schema, `noise` the standard
    deviation of a defense's noise. With a known step length: the estimate, then its neighbors by one record that lie
    within two standard errors. Without: the estimates for step lengths from the shortest possible to a hundred times
    that.
    """
    mean = chances.mean(0)
    if records == 1:
        return (label_counts(-update, mean, 1),)
    if length is None:
        shortest = float((update.abs() / (1 - mean).clamp_min(1e-6)).max()) or 1.0
        tried = [label_counts(-update / (shortest * s), mean, records, class_weights) for s in np.geomspace(1, 100, 50)]
    else:
        exact = _wanted((-update / length).double(), mean.double(), records, class_weights)
        error = (records * chances.var(0) + (records * noise / length) ** 2).sqrt()
        first = label_counts(-update / length, mean, records, class_weights)
        near = [c for c in _neighbors(first, exact) if bool(((c - exact).abs() <= 0.5 + 2 * error).all())]
        tried = [first, *near]
    unique = {tuple(counts.tolist()): counts for counts in tried}
    return tuple(unique.values())[:HYPOTHESES]


def _neighbors(counts: Tensor, exact: Tensor) -> list[Tensor]:
    """Counts with one record moved to another class, those nearest to the unrounded estimate first."""
    found = []
    for giver in counts.nonzero()[:, 0].tolist():
        for taker in range(len(counts)):
            if taker != giver:
                moved = counts.clone()
                moved[giver] -= 1
                moved[taker] += 1
                found.append(moved)
    return sorted(found, key=lambda moved: float((moved - exact).square().sum()))


def as_labels(counts: Tensor) -> Tensor:
    """Counts (classes,) to sorted labels int64 (n,)."""
    return torch.arange(len(counts)).repeat_interleave(counts)
