"""The optimizers of local training, one file each, and what a round's local steps are made of.

Each is a frozen table of a scenario with one pure function, `direction`, that works on single tensors as on the
stacked tensors of many clients, as every operation is by entry. To add one, write its file and name it in `Table`
below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

import torch
from pydantic import Field
from torch import Tensor

from fedinv.task.optimizers.adam import Adam
from fedinv.task.optimizers.adamw import AdamW
from fedinv.task.optimizers.optimizer import Memory, Optimizer, Regularization, Tensors
from fedinv.task.optimizers.rmsprop import RmsProp
from fedinv.task.optimizers.schedules import AnySchedule, Constant
from fedinv.task.optimizers.sgd import Sgd
from fedinv.task.optimizers.short_form import by_kind

__all__ = [
    "CONSTANT",
    "KINDS",
    "SGD",
    "Adam",
    "AdamW",
    "AnyOptimizer",
    "AnySchedule",
    "Constant",
    "LocalDescent",
    "Memory",
    "Optimizer",
    "RmsProp",
    "Sgd",
    "Table",
]

Table = Sgd | Adam | AdamW | RmsProp
"""The optimizers' tables."""
KINDS: Mapping[str, type[Optimizer]] = {one.model_fields["kind"].default: one for one in get_args(Table)}
"""The optimizers by kind."""
AnyOptimizer = Annotated[Annotated[Table, Field(discriminator="kind")], by_kind(KINDS)]
"""Any of the optimizers, as a scenario writes it: `"adam"` or `{ kind = "adam", eps = 1e-6 }`."""


SGD = Sgd()
"""Plain stochastic gradient descent."""
CONSTANT = Constant()
"""A constant learning rate."""


@dataclass(frozen=True)
class LocalDescent:
    """How the local steps of a client's round follow from their gradients."""

    lr: float
    """Learning rate of the round, before `schedule`."""
    momentum: float = 0.0
    """Share of the previous step that is added to each step."""
    weight_decay: float = 0.0
    """Multiple of the weights by which they shrink."""
    optimizer: Optimizer = SGD
    """Optimizer, which begins anew in each round."""
    proximal: float = 0.0
    """Multiple of the distance to the global model that is added to each gradient."""
    schedule: AnySchedule = CONSTANT
    """Schedule of the learning rate over the local steps of a round."""

    @property
    def linear(self) -> bool:
        """Whether the update is linear in the steps' gradients."""
        return self.optimizer.linear

    @property
    def plain(self) -> bool:
        """Whether each step is the gradient times the learning rate and nothing else."""
        plain = isinstance(self.optimizer, Sgd) and isinstance(self.schedule, Constant)
        return plain and not (self.momentum or self.weight_decay or self.proximal)

    def lrs(self, steps: int) -> tuple[float, ...]:
        """Learning rate of each of `steps` local steps."""
        return tuple(self.lr * self.schedule.factor(step, steps) for step in range(steps))

    def direction(
        self, gradients: Tensors, weights: Tensors, start: Tensors, memory: Memory
    ) -> tuple[list[Tensor], Memory]:
        """The direction of a step at `weights`, to be subtracted times the learning rate, and what is remembered.

        `start` is the global model, which the proximal term draws to (Li et al. 2020, FedProx, equation 2). No argument
        is changed; all tensors may be stacked.
        """
        pulled: Sequence[Tensor] = gradients
        if self.proximal:
            away = torch._foreach_sub(list(weights), list(start))
            pulled = torch._foreach_add(list(gradients), away, alpha=self.proximal)
        return self.optimizer.direction(pulled, weights, memory, Regularization(self.momentum, self.weight_decay))
