"""AdamW: Adam whose weight decay shrinks the weights themselves."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedinv.task.optimizers.adam import Beta, adaptive
from fedinv.task.optimizers.optimizer import Memory, Optimizer, Regularization, Tensors


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019, algorithm 2).

    Each step shrinks the weights by training.weight_decay times the learning rate, which no gradient scales.
    """

    kind: Literal["adamw"] = "adamw"
    """Selects Adam with decoupled weight decay."""
    decoupled: ClassVar[bool] = True
    usual_lr: ClassVar[float] = 0.001
    usual_decay: ClassVar[float] = 0.01
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Shares of the running means of gradients and of their squares that are kept at each step."""
    eps: float = Field(default=1e-8, gt=0)
    """Number that is added to the root of the mean square, in the gradient's unit."""
    amsgrad: bool = False
    """True: divides by the largest mean square so far (Reddi et al. 2018)."""

    def direction(
        self, gradients: Tensors, weights: Tensors, memory: Memory, shared: Regularization
    ) -> tuple[list[Tensor], Memory]:
        """Adam's direction of the gradients alone, plus the weights times their decay."""
        steps, kept = adaptive(list(gradients), memory, self.betas, self.eps, self.amsgrad)
        if shared.weight_decay:
            torch._foreach_add_(steps, list(weights), alpha=shared.weight_decay)
        return steps, kept
