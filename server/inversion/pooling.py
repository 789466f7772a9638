"""One claim out of many restarts, and how far they agree on it.

Vero et al. 2023 (TabLeak), sections 4.2 and 4.3: the restarts' records are put in the same order, then pooled; what
the restarts agree on is likely right.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .relaxation import Relaxation

CLOSE = 0.319
"""Standard deviations within which two restarts agree on a number (TabLeak's tolerance)."""


def align(inputs: Tensor, labels: Tensor) -> Tensor:
    """Reorder each restart's records (restarts, n, width) to match those of the first, never across labels."""
    aligned = [inputs[0]]
    for records, classes in zip(inputs[1:], labels[1:], strict=True):
        cost = torch.cdist(inputs[0], records).square() + 1e6 * (labels[0][:, None] != classes[None, :])
        aligned.append(records[torch.from_numpy(linear_sum_assignment(cost.double().numpy())[1])])
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


def agreement(aligned: Tensor, share: Tensor, claimed: Tensor, relaxation: Relaxation) -> Tensor:
    """How far the restarts agree with the claimed records (n, width): (n,), 0 to 1, a mean over the columns.

    Of a categorical column the pooled probability of the claimed value counts, of a number the weight of the
    restarts within CLOSE standard deviations.
    """
    hot = relaxation.groups.sum(1)
    near = torch.einsum("r,rnw->nw", share, ((aligned - claimed).abs() <= CLOSE).float()) * (1 - hot)
    likely = torch.einsum("r,rnw->nw", share, aligned) * claimed * hot
    columns = (1 - hot).sum() + relaxation.groups.shape[1]
    return ((near + likely).sum(1) / columns).clamp(0, 1)


def determined(influence: Tensor, misfit: float) -> Tensor:
    """How far the update determines each record: (n,), 0 to 1, near 1 where its own gradient stands out.

    A record's share of the gradient's squared length (n,) over that and its part, one n-th, of `misfit`: the share of
    the update's squared length that stays unexplained.
    """
    return influence / (influence + misfit / len(influence) + 1e-12)
