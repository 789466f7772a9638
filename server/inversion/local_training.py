"""What follows from the attacker's knowledge for a client's local training: its steps, their length, the network."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedinv.attack import Exchange, Knowledge, Weights
from fedinv.task.models import AnyModel, load
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
    """
    steps, m = local_steps(knows, records), knows.momentum or 0.0
    if knows.lr is None or steps is None:
        return None
    if knows.algorithm == "fedsgd":
        return knows.lr
    return knows.lr * sum((1 - m ** (steps - t)) / (1 - m) for t in range(steps))


def decay(knows: Knowledge, records: int) -> float:
    """Change of a weight of 1 by known weight decay alone, to be subtracted from the update; 0 without weight decay.

    Training is linear in it, so that any weight changes in proportion.
    """
    steps = local_steps(knows, records)
    if not knows.weight_decay or knows.lr is None or steps is None:
        return 0.0
    weight, velocity = 1.0, 0.0
    for _ in range(steps):
        velocity = (knows.momentum or 0.0) * velocity + knows.weight_decay * weight
        weight -= knows.lr * velocity
    return weight - 1.0


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


def course(steps: int, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> Course:
    """The course of `steps` local steps: v_t = m v_(t-1) + g_t + decay W_(t-1), W_t = W_(t-1) - lr v_t.

    McMahan et al. 2017, algorithm 1, with momentum m and weight decay.
    """
    # in the basis (W0, -g_1, ..., -g_T)
    weights, velocity = np.zeros(steps + 1), np.zeros(steps + 1)
    weights[0] = 1.0
    passed = [weights]
    for step in range(1, steps + 1):
        velocity = momentum * velocity + weight_decay * weights
        velocity[step] -= 1.0
        weights = weights - lr * velocity
        passed.append(weights)
    table = torch.from_numpy(np.stack(passed))
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

    Without the schema the numbers of inputs and outputs are those of the first and the last parameter. Raises
    ValueError where the weights are not of that architecture.
    """
    shapes = [tensor.shape for tensor in weights.values()]
    try:
        shape = tuple(shapes[0][1:]) if schema is None else schema.shape
        outputs = shapes[-1][0] if schema is None else schema.outputs
        return load(model, shape, outputs, {name: tensor.clone() for name, tensor in weights.items()})
    except (IndexError, RuntimeError, ValueError) as error:
        # torch's own words name every parameter, a line each
        raise ValueError("the weights that were sent are not of the architecture that is known") from error
