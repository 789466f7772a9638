"""Adversarial training's terms: how a record is moved to where the network's loss is higher.

Madry, Makelov, Schmidt, Tsipras, Vladu 2018 (Towards deep learning models resistant to adversarial attacks), section 2.
"""

import torch
from torch import Tensor, nn

from fedinv.task.loss import loss


def perturbed(
    network: nn.Sequential, records: Tensor, labels: Tensor, radius: float, steps: int, step: float
) -> Tensor:
    """Records (n, d) moved uphill on the loss by `steps` signed steps of length `step`, at most `radius` in each input.

    Projected gradient descent within a box around each record; `labels` are classes (n,), probabilities (n, classes) or
    standardized targets (n,). The result carries no gradient.
    """
    moved = records
    for _ in range(steps):
        at = moved.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(network(at), labels, reduction="sum"), at)
        moved = records + (at.detach() + step * slope.sign() - records).clamp(-radius, radius)
    return moved.detach()
