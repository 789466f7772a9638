"""Recomputes the update from a claim: an attack's check of itself that needs no truth."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import EXPLAINS, EXPLAINS_SIGNALS, Knowledge, Weights
from fedinv.task.loss import loss
from fedinv.task.optimizers import Memory

from .local_training import known_network, shuffled_batches, single_step

REORDERED = 0.45
"""Mismatch up to which a claim explains an update of several local steps, whose order of batches is not known.

The true records in another order leave 0.05 to 0.42 (hospital and bank, 32 to 256 records, five epochs); records drawn
from the published marginals, with the true labels, 0.81 or more, and claims of which half the records are true 0.5 or
more (`python -m benchmarks verified`)."""
MOST_NOISE = 0.5
"""Largest share of noise in an update's squared norm behind which a claim can be verified: behind more, what right and
wrong records leave unexplained hardly differs."""


def recompute_update(
    knows: Knowledge,
    sent: Weights,
    records: Tensor,
    labels: Tensor,
    rng: np.random.Generator,
    *,
    count: int | None = None,
) -> dict[str, Tensor]:
    """The update, LOCAL MINUS GLOBAL, that a client with these records would have sent: float32 by parameter name.

    records (n, inputs) in the network's encoding, labels (n,) int64 classes, or floating-point targets, whose loss is
    the squared error. FedSGD takes one step on all of them; FedAvg repeats the local epochs with a random order of
    batches, one of many possible. The steps are those of the optimizer that is known, which begins anew. `count` is the
    number of records that the client trained on, where more than the claimed ones: FedSGD's gradient is divided by it.
    Raises ValueError naming the knowledge that is missing or does not fit.
    """
    model, lr, algorithm = knows.model, knows.lr, knows.algorithm
    if model is None or lr is None or algorithm is None:
        missing = [
            name for name, value in (("architecture", model), ("lr", lr), ("algorithm", algorithm)) if value is None
        ]
        raise ValueError(f"the update cannot be computed again without {', '.join(missing)}")
    if len(records) == 0 or len(records) != len(labels):
        raise ValueError(f"{len(records)} records and {len(labels)} labels")
    network = known_network(model, sent, knows.schema)
    records, weights = records.float(), dict(network.named_parameters())
    at: list[Tensor] = list(weights.values())
    start = [weight.detach().clone() for weight in at]
    moved, memory, descent = [torch.zeros_like(weight) for weight in at], Memory(), knows.descent
    class_weights = torch.tensor(knows.class_weights) if knows.class_weights else None
    batches = list(shuffled_batches(knows, len(records), rng))
    for rows, rate in zip(batches, descent.lrs(len(batches)), strict=True):
        value = loss(network(records[rows]), labels[rows], class_weights=class_weights)
        if algorithm == "fedsgd" and count is not None:
            value = value * (len(records) / count)
        gradients = torch.autograd.grad(value, at)
        with torch.no_grad():
            steps, memory = descent.direction(gradients, at, start, memory)
            torch._foreach_add_(at, steps, alpha=-rate)
            torch._foreach_add_(moved, steps, alpha=-rate)
    return dict(zip(weights, moved, strict=True))


def mismatch(update: Mapping[str, Tensor], observed: Weights) -> float:
    """Distance of two updates over all parameters, relative to the observed one's norm: 0 if equal, 1 for zeros.

    Infinite where the observed update is zero and the other is not.
    """
    distance = math.sqrt(sum(float((update[n].double() - t.double()).square().sum()) for n, t in observed.items()))
    size = math.sqrt(sum(float(t.double().square().sum()) for t in observed.values()))
    return distance / size if size > 0 else (math.inf if distance > 0 else 0.0)


def bound_of(knows: Knowledge) -> float:
    """Mismatch up to which a claim explains an update of a single step."""
    return EXPLAINS if knows.schema is None or knows.schema.image is None else EXPLAINS_SIGNALS


def explains(mismatch: float | None, knows: Knowledge, records: int, noise: float = 0.0) -> bool:
    """Whether a claim of this mismatch explains an update of so many records, so that all it claims is verified.

    `noise` is the expected share, 0 to 1, of known noise in the update's squared norm, which no claim explains; of the
    rest as much must be explained as without noise.
    """
    if mismatch is None or noise > MOST_NOISE:
        return False
    bound = bound_of(knows) if single_step(knows, records) else REORDERED
    return mismatch**2 <= noise + (1 - noise) * bound**2
