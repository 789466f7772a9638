"""What follows from the attacker's knowledge for a client's local training: its steps, their length, the network."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedinv.attack import Exchange, Knowledge, Weights
from fedinv.task.models import AnyModel, load
from fedinv.task.optimizers import LocalDescent, Memory
from fedinv.task.schema import Schema


def single_step(knows: Knowledge, records: int) -> bool:
    """Whether the client is known to have taken a single step on all of its records."""
    return local_steps(knows, records) == 1


def local_steps(knows: Knowledge, records: float) -> int | None:
    """Number of steps that a client with `records` records took; None where epochs or batch size are withheld."""
    if knows.algorithm == "fedsgd":
        return 1
    if knows.epochs is None or knows.batch_size is None:
        return None
    return knows.epochs * math.ceil(records / knows.batch_size)


def step_length(knows: Knowledge, records: int) -> float | None:
    """Learning rate summed over a client's local steps; None where the rate or the number of steps is not known.

    With momentum m step t of T has the weight (1 - m^(T - t)) / (1 - m), as its gradient goes into later steps too.
    Raises ValueError where the optimizer is known to scale each entry of a step by itself.
    """
    plan = known_course(knows, records)
    return None if plan is None else float(plan.moved[-1].sum())


def decay(knows: Knowledge, records: int) -> float:
    """Change of a weight of 1 by known weight decay alone, to be subtracted from the update; 0 without weight decay.

    Training is linear in it, so that any weight changes in proportion. Raises ValueError as `step_length` does.
    """
    plan = known_course(knows, records)
    return 0.0 if plan is None or not knows.weight_decay else float(plan.kept[-1]) - 1.0


def known_course(knows: Knowledge, records: int) -> "Course | None":
    """The course of a client's local steps; None where the learning rate or the number of steps is not known.

    Raises ValueError, in the words of a note, where the optimizer is known to scale each entry of a step by itself.
    """
    if knows.adaptive is not None:
        raise ValueError(knows.adaptive)
    steps = local_steps(knows, records)
    return None if knows.lr is None or steps is None else course(knows.descent, steps)


@dataclass(frozen=True)
class Course:
    """The weights after each of T local steps of SGD with momentum and weight decay, as coefficients.

    After t steps they are kept[t] W0 - sum over s of moved[t, s] g_s, with W0 the weights that were sent and g_s the
    mean gradient of step s's batch; after T they are the client's model.
    """

    kept: Tensor
    """Coefficients of the weights that were sent, float64 (T + 1,)."""
    moved: Tensor
    """Coefficients of the steps' gradients, subtracted, float64 (T + 1, T)."""

    @property
    def steps(self) -> int:
        """Number of local steps, T."""
        return len(self.kept) - 1


def course(descent: LocalDescent, steps: int) -> Course:
    """The course of `steps` local steps of a linear optimizer, found by letting it descend on coefficients.

    For SGD with momentum m: v_t = m v_(t-1) + g_t + decay W_(t-1) + mu (W_(t-1) - W0), W_t = W_(t-1) - lr_t v_t
    (McMahan et al. 2017, algorithm 1; mu of FedProx, lr_t of the schedule).
    """
    # in the basis (W0, -g_1, ..., -g_T), in which the sent weights are the first unit vector
    begun = torch.zeros(steps + 1, dtype=torch.float64)
    begun[0] = 1.0
    weights, memory, passed = begun, Memory(), [begun]
    for step, lr in enumerate(descent.lrs(steps), 1):
        gradient = torch.zeros_like(begun)
        gradient[step] = -1.0
        (direction,), memory = descent.direction([gradient], [weights], [begun], memory)
        weights = weights - lr * direction
        passed.append(weights)
    table = torch.stack(passed)
    return Course(table[:, 0], table[:, 1:])


def shuffled_batches(knows: Knowledge, records: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield the rows, int64, of each local step's batch: all records for fedsgd, else epochs of shuffled batches.

    Raises ValueError where the epochs or the batch size are withheld.
    """
    if knows.algorithm == "fedsgd":
        yield torch.arange(records)
        return
    if knows.epochs is None or knows.batch_size is None:
        raise ValueError("the update cannot be computed again without epochs and batch-size")
    for _ in range(knows.epochs):
        yield from torch.split(torch.from_numpy(rng.permutation(records)), knows.batch_size)


def gradient_weights(last: Exchange, single: bool, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The weights at which an update is treated as a gradient: for a `single` step those sent, else those halfway.

    Halfway is the mean of the model that was sent and the client's. Raises ValueError where the update does not have
    the parameters that were sent.
    """
    if single:
        return {name: tensor.to(dtype, copy=True) for name, tensor in last.sent.items()}
    if sorted(last.received) != sorted(last.sent):
        raise ValueError("there is no update with the parameters that were sent, as if it were masked")
    return {name: tensor.to(dtype) + last.received[name].to(dtype) / 2 for name, tensor in last.sent.items()}


def known_network(model: AnyModel, weights: Weights, schema: Schema | None = None) -> nn.Sequential:
    """The network of a known architecture with copies of these weights, in training mode.

    Without the schema the numbers of inputs and outputs are those that the model says, else those of the first and the
    last parameter. Raises ValueError where the weights are not of that architecture.
    """
    shapes = [tensor.shape for tensor in weights.values()]
    try:
        known = model.sizes if schema is None else (schema.shape, schema.outputs)
        shape, outputs = known or (tuple(shapes[0][1:]), shapes[-1][0])
        return load(model, shape, outputs, {name: tensor.clone() for name, tensor in weights.items()})
    except (IndexError, RuntimeError, ValueError) as error:
        # torch's own words name every parameter, a line each
        raise ValueError("the weights that were sent are not of the architecture that is known") from error
