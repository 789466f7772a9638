"""The two losses: cross-entropy for classes, squared error for a numeric label."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

Loss = Literal["cross-entropy", "squared-error"]


def loss(
    outputs: Tensor,
    labels: Tensor,
    reduction: Literal["mean", "sum", "none"] = "mean",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of logits (n, classes), or squared error of outputs (n, 1).

    The labels decide: int64 classes (n,) or probabilities float (n, classes) give the cross-entropy, standardized
    targets float (n,) the squared error. `class_weights` (classes,) multiply each class' part of a record's
    cross-entropy; the mean is over the number of records, so that a record's share depends on no other.
    """
    if labels.is_floating_point() and labels.ndim == 1:
        return mse_loss(outputs[:, 0], labels, reduction=reduction)
    if class_weights is None:
        return cross_entropy(outputs, labels, reduction=reduction)
    weights = class_weights.to(outputs)
    each = (
        cross_entropy(outputs, labels, reduction="none") * weights[labels]
        if not labels.is_floating_point()
        else -(outputs.log_softmax(-1) * labels * weights).sum(-1)
    )
    return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()
