"""Shadow models: many networks trained at once on subsets of the same records, their weights stacked in one tensor."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from fedinv.attack import Knowledge, Sample
from fedinv.task.loss import loss
from fedinv.task.models import build
from fedinv.task.optimizers import SGD, LocalDescent, Memory

AT_ONCE = 2**26
"""Numbers of input, over all networks, that are computed side by side at most: more would not fit into memory."""


@dataclass(frozen=True)
class ShadowTraining:
    """How each shadow model is trained."""

    steps: int
    """Steps of the optimizer."""
    batch: int
    """Records in each step, drawn with replacement."""
    lr: float
    """Learning rate of the optimizer."""


def shadows(knows: Knowledge, people: Sample, inside: Tensor, training: ShadowTraining, seed: int) -> dict[str, Tensor]:
    """Train as many networks as `inside` (shadows, people) has rows, each on the people that its row marks.

    The optimizer that is known, from one initialization, each shadow with batches of its own; returns parameters
    (shadows, ...) by name. Averaging over clients is not simulated: in expectation an averaged round moves like its
    clients' mean gradient.
    """
    assert knows.model is not None and knows.schema is not None
    network = build(knows.model, knows.schema.shape, knows.schema.outputs, seed)
    count, generator = len(inside), torch.Generator().manual_seed(seed)
    weights = {name: p.detach().repeat(count, *[1] * p.dim()) for name, p in network.named_parameters()}

    def off(at: dict[str, Tensor], records: Tensor, labels: Tensor) -> Tensor:
        return loss(functional_call(network, at, (records,)), labels, class_weights=class_weights)

    class_weights = torch.tensor(knows.class_weights) if knows.class_weights else None
    slope = vmap(grad(off), chunk_size=_at_once(people.records[: training.batch]))
    # FedProx draws to a model that moves with the average, and local schedules begin anew: neither is simulated
    descent = LocalDescent(training.lr, knows.momentum or 0.0, knows.weight_decay or 0.0, knows.optimizer or SGD)
    at, memory = list(weights.values()), Memory()
    for _ in range(training.steps):
        rows = torch.multinomial(inside.float(), training.batch, replacement=True, generator=generator)
        slopes = slope(weights, people.records[rows], people.labels[rows])
        steps, memory = descent.direction([slopes[name] for name in weights], at, at, memory)
        torch._foreach_add_(at, steps, alpha=-training.lr)
    return weights


def confidences(knows: Knowledge, weights: dict[str, Tensor], people: Sample) -> Tensor:
    """Log odds of the true class, log p - log(1 - p), of each person by each network, float64 (networks, people).

    Carlini et al. 2022, section V-B; at most 50.
    """
    assert knows.model is not None and knows.schema is not None
    network = build(knows.model, knows.schema.shape, knows.schema.outputs, 0)

    def outputs(at: dict[str, Tensor]) -> Tensor:
        return torch.as_tensor(functional_call(network, at, (people.records,)))

    with torch.no_grad():
        chances = vmap(outputs, chunk_size=_at_once(people.records))(weights).double().log_softmax(-1)
    true = chances.gather(2, people.labels.expand(len(chances), -1)[..., None])[..., 0]
    others = chances.scatter(2, people.labels.expand(len(chances), -1)[..., None], -torch.inf).logsumexp(-1)
    return (true - others).clamp(-math.inf, 50)


def _at_once(records: Tensor) -> int:
    """Number of networks that are computed side by side on these records each."""
    return max(1, AT_ONCE // max(1, records.numel()))
