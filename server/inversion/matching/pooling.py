"""Pools many restarts into one claim, with confidences by how far they agree.

Vero et al. 2023 (TabLeak), sections 4.2 and 4.3: the restarts' records are put in the same order, then pooled; fields
on which the restarts agree are likely right.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .relaxation import Relaxation

CLOSE = 0.319
"""Difference in standard deviations up to which restarts agree on a number (TabLeak's tolerance)."""


def align(inputs: Tensor, labels: Tensor) -> Tensor:
    """Reorder each restart's records (restarts, n, width) to match those of the first, never across labels."""
    from scipy.optimize import linear_sum_assignment

    aligned = [inputs[0]]
    for records, classes in zip(inputs[1:], labels[1:], strict=True):
        cost = torch.cdist(inputs[0], records).square() + 1e6 * (labels[0][:, None] != classes[None, :])
        aligned.append(
            records[torch.from_numpy(linear_sum_assignment(cost.double().cpu().numpy())[1]).to(records.device)]
        )
    return torch.stack(aligned)


def weights(misfits: Tensor) -> Tensor:
    """Weights of restarts with these misfits, both (restarts,), best first; they add up to 1.

    A weight falls by a factor of e each time the misfit grows by the best one's.
    """
    misfit = misfits.double().clamp_min(1e-6)
    share = (1 - misfit / misfit.min()).exp()
    return (share / share.sum()).float()


def pool(aligned: Tensor, share: Tensor, relaxation: Relaxation) -> Tensor:
    """Pool aligned restarts (restarts, n, width) by weight: the mean of each one-hot group, the median of a number."""
    mean = torch.einsum("r,rnw->nw", share, aligned)
    ordered, order = aligned.sort(0)
    reached = share[order].cumsum(0) >= 0.5 - 1e-6
    median = ordered.gather(0, reached.float().argmax(0, keepdim=True))[0]
    return torch.where(relaxation.groups.sum(1) > 0, mean, median)


@dataclass(frozen=True)
class Pooled:
    """Restarts with their records in the same order, and the records pooled from them."""

    aligned: Tensor
    """Each restart's records, in the order of the best one's, float32 (restarts, n, width)."""
    share: Tensor
    """Weight of each restart, float32 (restarts,); they add up to 1."""
    records: Tensor
    """Pooled records with categories not yet one-hot, float32 (n, width)."""


def pool_by(
    how: Literal["best", "equal", "weighted"], inputs: Tensor, labels: Tensor, misfits: Tensor, relaxation: Relaxation
) -> Pooled:
    """Align restarts (restarts, n, width), best first, and pool them: with equal weights, or those of `weights`."""
    aligned = align(inputs, labels)
    share = torch.full_like(misfits, 1 / len(misfits)) if how == "equal" else weights(misfits)
    return Pooled(aligned, share, pool(aligned, share, relaxation))


def agreement(aligned: Tensor, share: Tensor, claimed: Tensor, relaxation: Relaxation) -> Tensor:
    """Agreement of the restarts with each field of the claimed records (n, width), 0 to 1, (n, columns).

    For a category it is the pooled probability of the claimed value, for a number the weight of the restarts within
    CLOSE standard deviations.
    """
    hot = relaxation.groups.sum(1) > 0
    near = torch.einsum("r,rnw->nw", share, ((aligned - claimed).abs() <= CLOSE).float())[:, ~hot]
    likely = (torch.einsum("r,rnw->nw", share, aligned) * claimed) @ relaxation.groups
    return _in_order(near, likely, relaxation).clamp(0, 1)


def certainty(aligned: Tensor, share: Tensor, relaxation: Relaxation) -> Tensor:
    """Certainty of restarts (restarts, n, width) about each field, 0 to 1, (n, columns).

    Vero et al. 2023, section 4.3: 1 minus the normalized entropy of a group's pooled probabilities; for a number the
    probability that a normal variable with the restarts' standard deviation is within CLOSE of its mean, which falls
    with its entropy.
    """
    hot = relaxation.groups.sum(1) > 0
    mean = torch.einsum("r,rnw->nw", share, aligned)
    spread = torch.einsum("r,rnw->nw", share, (aligned - mean).square())[:, ~hot].sqrt()
    number = torch.erf(CLOSE / (spread * 2**0.5 + 1e-12))
    entropy = -torch.special.xlogy(mean.clamp(0, 1), mean.clamp(1e-12, 1)) @ relaxation.groups
    group = 1 - entropy / relaxation.groups.sum(0).log().clamp_min(1e-12)
    return _in_order(number, group, relaxation).clamp(0, 1)


def _in_order(numbers: Tensor, groups: Tensor, relaxation: Relaxation) -> Tensor:
    """Values of the numeric columns (n, numbers) and the categorical ones (n, groups), merged in the columns' order."""
    first = torch.cat([(relaxation.groups.sum(1) == 0).nonzero()[:, 0], relaxation.groups.argmax(0)])
    return torch.cat([numbers, groups], 1)[:, first.argsort()]


def determined(influence: Tensor, misfit: float) -> Tensor:
    """How far the update determines each record, 0 to 1, (n,): near 1 where its own gradient dominates the residual.

    `influence` (n,) are the records' shares of the gradient's squared norm, `misfit` the share of the update's squared
    norm that is not explained: influence / (influence + misfit / n).
    """
    return influence / (influence + misfit / len(influence) + 1e-12)
