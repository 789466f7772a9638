"""RMSprop: divides each gradient by the root of a running mean of its square."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedinv.task.optimizers.optimizer import Memory, Optimizer, Regularization, Tensors
from fedinv.task.optimizers.sgd import decayed


class RmsProp(Optimizer):
    """RMSprop (Tieleman, Hinton 2012), with training.momentum and training.weight_decay as in torch.

    The running mean begins at zero, so that a round's first step is 1 / sqrt(1 - alpha) times the learning rate.
    """

    kind: Literal["rmsprop"] = "rmsprop"
    """Selects RMSprop, with the settings of its table."""
    takes_momentum: ClassVar[bool] = True
    usual_lr: ClassVar[float] = 0.01
    alpha: float = Field(default=0.99, ge=0, lt=1)
    """Share of the running mean of squares that is kept at each step."""
    eps: float = Field(default=1e-8, gt=0)
    """Number that is added to the root of the mean square, in the gradient's unit."""

    def direction(
        self, gradients: Tensors, weights: Tensors, memory: Memory, shared: Regularization
    ) -> tuple[list[Tensor], Memory]:
        """The gradient over the root of its mean square, summed up where there is momentum."""
        pulled = decayed(gradients, weights, shared.weight_decay)
        before = memory.tensors or ([torch.zeros_like(one) for one in pulled],) * 2
        squares = list(torch._foreach_mul(before[0], self.alpha))
        torch._foreach_addcmul_(squares, pulled, pulled, value=1 - self.alpha)
        roots = list(torch._foreach_sqrt(squares))
        torch._foreach_add_(roots, self.eps)
        steps = list(torch._foreach_div(pulled, roots))
        if not shared.momentum:
            return steps, Memory(memory.steps + 1, (squares,))
        torch._foreach_add_(steps, before[1], alpha=shared.momentum)
        return steps, Memory(memory.steps + 1, (squares, steps))
