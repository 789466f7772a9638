"""The two losses: cross-entropy for classes, squared error for a numeric label."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

Loss = Literal["cross-entropy", "squared-error"]


def loss(outputs: Tensor, labels: Tensor, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor:
    """Cross-entropy of logits (n, classes), or squared error of outputs (n, 1).

    The labels decide: int64 classes (n,) or probabilities float (n, classes) give the cross-entropy, standardized
    targets float (n,) the squared error.
    """
    if labels.is_floating_point() and labels.ndim == 1:
        return mse_loss(outputs[:, 0], labels, reduction=reduction)
    return cross_entropy(outputs, labels, reduction=reduction)
