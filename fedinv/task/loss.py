"""What networks are trained to make small."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

Loss = Literal["cross-entropy", "squared-error"]


def loss(outputs: Tensor, labels: Tensor, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor:
    """Cross-entropy of logits (n, classes), squared error of outputs (n, 1).

    Labels are int64 (n,) or probabilities float (n, classes) for the one, targets float (n,) for the other.
    """
    if labels.is_floating_point() and labels.ndim == 1:
        return mse_loss(outputs[:, 0], labels, reduction=reduction)
    return cross_entropy(outputs, labels, reduction=reduction)
