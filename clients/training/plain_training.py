"""Local training of one client without any defense, by the scenario's optimizer."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.federation.training import Batch, Job, Update
from fedinv.task.loss import loss
from fedinv.task.models import outputs_of, state
from fedinv.task.networks.bottleneck import penalty
from fedinv.task.optimizers import Memory


def plain_training(job: Job) -> Update:
    """Train on the job's batches and return LOCAL MINUS GLOBAL.

    McMahan et al. 2017, algorithm 1, with the steps of any optimizer, which begins anew. A single step is returned as
    the product -lr * direction, not as a difference of weights, which would lose digits. The change of a batch
    normalization's running statistics is part of the update, as in a Flower client that sends its state_dict.
    """
    descent, class_weights = job.training.descent, job.training.weights()
    named = dict(job.network.named_parameters())
    weights: list[Tensor] = list(named.values())
    start = {name: tensor.clone() for name, tensor in state(job.network.train()).items()}
    begun, memory, steps = [start[name] for name in named], Memory(), list[Tensor]()
    lrs = descent.lrs(len(job.batches))
    for batch, lr in zip(job.batches, lrs, strict=True):
        inputs, labels = drawn(job, torch.from_numpy(batch))
        objective = loss(job.network(inputs), labels, class_weights=class_weights) + penalty(job.network)
        gradients = torch.autograd.grad(objective, weights)
        with torch.no_grad():
            steps, memory = descent.direction(gradients, weights, begun, memory)
            torch._foreach_add_(weights, steps, alpha=-lr)
    update = {name: end - start[name] for name, end in state(job.network).items()}
    if len(job.batches) == 1:
        update |= {name: -lrs[0] * step for name, step in zip(named, steps, strict=True)}
    return update


def drawn(job: Job, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and labels (or class probabilities) of a local step on these rows, as the defenses change them."""
    inputs, labels = job.inputs[rows], job.labels[rows]
    if job.augment is None or not len(rows):
        return inputs, labels
    if not labels.is_floating_point():
        classes = outputs_of(job.network)
        labels = one_hot(labels, classes).float()
    batch = job.augment(Batch(inputs, labels))
    return batch.inputs, batch.targets
