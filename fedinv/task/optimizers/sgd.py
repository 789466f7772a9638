"""Stochastic gradient descent with momentum, Nesterov's too, and weight decay."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedinv.task.optimizers.optimizer import Memory, Optimizer, Regularization, Tensors


class Sgd(Optimizer):
    """Stochastic gradient descent, with training.momentum and training.weight_decay (McMahan et al. 2017).

    The update is a sum of gradients with fixed factors, so that attacks on gradients read it.
    """

    kind: Literal["sgd"] = "sgd"
    """Selects stochastic gradient descent."""
    linear: ClassVar[bool] = True
    takes_momentum: ClassVar[bool] = True
    nesterov: bool = Field(default=False)
    """True: Nesterov's momentum, which adds the gradient once more to each step; it needs training.momentum."""

    def direction(
        self, gradients: Tensors, weights: Tensors, memory: Memory, shared: Regularization
    ) -> tuple[list[Tensor], Memory]:
        """V = momentum v + g, with g the gradient plus decay; the direction is v, or g + momentum v for Nesterov."""
        pulled = decayed(gradients, weights, shared.weight_decay)
        if not shared.momentum:
            return pulled, Memory(memory.steps + 1)
        if memory.tensors:
            velocity = list(torch._foreach_mul(memory.tensors[0], shared.momentum))
            torch._foreach_add_(velocity, pulled)
        else:
            velocity = [one.clone() for one in pulled]  # the gradients' own tensors may be used again
        kept = Memory(memory.steps + 1, (velocity,))
        return (list(torch._foreach_add(pulled, velocity, alpha=shared.momentum)) if self.nesterov else velocity), kept


def decayed(gradients: Tensors, weights: Tensors, weight_decay: float) -> list[Tensor]:
    """Gradients plus `weight_decay` times the weights: L2 regularization."""
    if not weight_decay:
        return list(gradients)
    return list(torch._foreach_add(list(gradients), list(weights), alpha=weight_decay))
