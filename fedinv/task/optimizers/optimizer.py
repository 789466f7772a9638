"""What an optimizer is: a table of a scenario, and the direction of each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedinv.strict import Strict

Tensors = Sequence[Tensor]
"""A tensor for each parameter: its own shape, or (clients, *shape) for clients that are trained as one stack."""


@dataclass(frozen=True)
class Regularization:
    """The keys of [training] that several optimizers share."""

    momentum: float = 0.0
    """Share of the previous step that is added to each step."""
    weight_decay: float = 0.0
    """Multiple of the weights by which they shrink."""


@dataclass(frozen=True)
class Memory:
    """What an optimizer remembers of the earlier steps of a round; empty before the first."""

    steps: int = 0
    """Number of steps taken."""
    tensors: tuple[list[Tensor], ...] = ()
    """Running means and the like, a list over the parameters each; empty before the first step."""

    def first(self, clients: int) -> "Memory":
        """The memory of the first clients of a stack, as later ones have no step left."""
        return Memory(self.steps, tuple([one[:clients] for one in tensors] for tensors in self.tensors))


class Optimizer(Strict):
    """Base of an optimizer: its fields are the keys of the scenario's training.optimizer."""

    kind: str
    """Name of the optimizer."""
    linear: ClassVar[bool] = False
    """True: the update is a sum of the steps' gradients with fixed factors, so that it lies in the records' span."""
    takes_momentum: ClassVar[bool] = False
    """True: training.momentum is used."""
    decoupled: ClassVar[bool] = False
    """True: weight decay shrinks the weights themselves, and no gradient holds it."""
    usual_lr: ClassVar[float] = 0.05
    """Learning rate where training.lr is not written."""
    usual_decay: ClassVar[float] = 0.0
    """Weight decay where training.weight_decay is not written."""

    def direction(
        self, gradients: Tensors, weights: Tensors, memory: Memory, shared: Regularization
    ) -> tuple[list[Tensor], Memory]:
        """The direction of one step, to be subtracted times the learning rate, and what is remembered for the next.

        Changes none of its arguments. The gradients are those of the mean loss at `weights`.
        """
        raise NotImplementedError
