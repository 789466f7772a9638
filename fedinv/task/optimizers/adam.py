"""Adam: every entry of a step is about as large as the learning rate, whatever its gradient."""

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedinv.task.optimizers.optimizer import Memory, Optimizer, Regularization, Tensors
from fedinv.task.optimizers.sgd import decayed

TINY = 1e-300
"""Least square whose root is not taken for zero, in float64."""
Beta = Annotated[float, Field(ge=0, lt=1)]
"""Share of a running mean that is kept at each step."""


class Adam(Optimizer):
    """Adam with bias correction (Kingma, Ba 2015, algorithm 1); training.weight_decay is added to the gradient.

    After one step, as in FedSGD, an update is nearly the gradient's sign times the learning rate.
    """

    kind: Literal["adam"] = "adam"
    """Selects Adam, with the settings of its table."""
    usual_lr: ClassVar[float] = 0.001
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Shares of the running means of gradients and of their squares that are kept at each step."""
    eps: float = Field(default=1e-8, gt=0)
    """Number that is added to the root of the mean square, in the gradient's unit."""
    amsgrad: bool = False
    """True: divides by the largest mean square so far (Reddi et al. 2018)."""

    def direction(
        self, gradients: Tensors, weights: Tensors, memory: Memory, shared: Regularization
    ) -> tuple[list[Tensor], Memory]:
        """Mean gradient over the root of the mean square, both corrected for having begun at zero."""
        return adaptive(decayed(gradients, weights, shared.weight_decay), memory, self.betas, self.eps, self.amsgrad)


def adaptive(
    gradients: list[Tensor], memory: Memory, betas: tuple[float, float], eps: float, amsgrad: bool
) -> tuple[list[Tensor], Memory]:
    """Adam's direction, without weight decay, and the running means after this step."""
    steps, (first, second) = memory.steps + 1, betas
    if memory.tensors:
        means = list(torch._foreach_mul(memory.tensors[0], first))
        squares = list(torch._foreach_mul(memory.tensors[1], second))
        torch._foreach_add_(means, gradients, alpha=1 - first)
    else:
        means = list(torch._foreach_mul(gradients, 1 - first))
        squares = [torch.zeros_like(one) for one in gradients]
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - second)
    kept: tuple[list[Tensor], ...] = (means, squares)
    if amsgrad:
        kept += (list(torch._foreach_maximum(memory.tensors[2], squares)) if memory.tensors else squares,)
    roots = _roots(kept[-1])
    torch._foreach_div_(roots, math.sqrt(1 - second**steps))
    torch._foreach_add_(roots, eps)
    torch._foreach_mul_(roots, 1 - first**steps)
    return list(torch._foreach_div(means, roots)), Memory(steps, kept)


def _roots(squares: list[Tensor]) -> list[Tensor]:
    """Square roots; of float64 by their reciprocals, as torch takes four times as long for its own.

    Clients train in float32, so that what they send is the same to the last bit as with torch's own.
    """
    if squares[0].dtype != torch.float64 or squares[0].is_cuda:
        return list(torch._foreach_sqrt(squares))
    return [one.clamp_min(TINY).rsqrt_().mul_(one) for one in squares]
