"""What networks are trained to make small."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

Loss = Literal["cross-entropy", "squared-error"]


def loss(outputs: Tensor, labels: Tensor, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor:
    """Cross-entropy of logits (n, classes) with labels int64 (n,), squared error of (n, 1) with targets float (n,)."""
    if labels.is_floating_point():
        return mse_loss(outputs[:, 0], labels, reduction=reduction)
    return cross_entropy(outputs, labels, reduction=reduction)
