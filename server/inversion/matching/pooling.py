"""One claim out of many restarts, and how far they agree on it.

Vero et al. 2023 (TabLeak), sections 4.2 and 4.3: the restarts' records are put in the same order, then pooled; what
the restarts agree on is likely right.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .relaxation import Relaxation

CLOSE = 0.319
"""Standard deviations within which two restarts agree on a number (TabLeak's tolerance)."""


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
    """How much each restart (restarts,), best first, counts: less by a factor of e for each time the best's misfit."""
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
    """Restarts in one order, and what they make together."""

    aligned: Tensor
    """float32 (restarts, n, width)."""
    share: Tensor
    """float32 (restarts,), of sum 1: how much each counts."""
    records: Tensor
    """float32 (n, width), not yet hardened."""


def pool_by(
    how: Literal["best", "equal", "weighted"], inputs: Tensor, labels: Tensor, misfits: Tensor, relaxation: Relaxation
) -> Pooled:
    """Align restarts (restarts, n, width), best first, and pool them: each alike, or by misfit; see `weights`."""
    aligned = align(inputs, labels)
    share = torch.full_like(misfits, 1 / len(misfits)) if how == "equal" else weights(misfits)
    return Pooled(aligned, share, pool(aligned, share, relaxation))


def agreement(aligned: Tensor, share: Tensor, claimed: Tensor, relaxation: Relaxation) -> Tensor:
    """How far the restarts agree with the claimed records (n, width): (n, columns), 0 to 1.

    Of a categorical column the pooled probability of the claimed value counts, of a number the weight of the
    restarts within CLOSE standard deviations.
    """
    hot = relaxation.groups.sum(1) > 0
    near = torch.einsum("r,rnw->nw", share, ((aligned - claimed).abs() <= CLOSE).float())[:, ~hot]
    likely = (torch.einsum("r,rnw->nw", share, aligned) * claimed) @ relaxation.groups
    return _in_order(near, likely, relaxation).clamp(0, 1)


def certainty(aligned: Tensor, share: Tensor, relaxation: Relaxation) -> Tensor:
    """How certain pooled restarts (restarts, n, width) are of each column: (n, columns), 0 to 1, as for `agreement`.

    Vero et al. 2023, section 4.3: one less the normalized entropy of a group's pooled probabilities, and of a number
    the chance that a normal variable of the restarts' spread is within CLOSE of its mean, which falls with its entropy.
    """
    hot = relaxation.groups.sum(1) > 0
    mean = torch.einsum("r,rnw->nw", share, aligned)
    spread = torch.einsum("r,rnw->nw", share, (aligned - mean).square())[:, ~hot].sqrt()
    number = torch.erf(CLOSE / (spread * 2**0.5 + 1e-12))
    entropy = -torch.special.xlogy(mean.clamp(0, 1), mean.clamp(1e-12, 1)) @ relaxation.groups
    group = 1 - entropy / relaxation.groups.sum(0).log().clamp_min(1e-12)
    return _in_order(number, group, relaxation).clamp(0, 1)


def _in_order(numbers: Tensor, groups: Tensor, relaxation: Relaxation) -> Tensor:
    """Put what is known of numbers (n, numbers) and of groups (n, groups) in the columns' order."""
    first = torch.cat([(relaxation.groups.sum(1) == 0).nonzero()[:, 0], relaxation.groups.argmax(0)])
    return torch.cat([numbers, groups], 1)[:, first.argsort()]


def determined(influence: Tensor, misfit: float) -> Tensor:
    """How far the update determines each record: (n,), 0 to 1, near 1 where its own gradient stands out.

    A record's share of the gradient's squared length (n,) over that and its part, one n-th, of `misfit`: the share of
    the update's squared length that stays unexplained.
    """
    return influence / (influence + misfit / len(influence) + 1e-12)
