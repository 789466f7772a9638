"""Local training without any defense: plain stochastic gradient descent."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.federation.training import Batch, Job, Update
from fedinv.task.loss import loss
from fedinv.task.models import state
from fedinv.task.networks.bottleneck import penalty


def plain_sgd(job: Job) -> Update:
    """Train on the job's batches and return LOCAL MINUS GLOBAL.

    SGD with momentum and weight decay as in McMahan et al. 2017, algorithm 1. A single step is returned as the product
    -lr * gradient, not as a difference of weights, which would lose digits. The change of a batch normalization's
    running statistics is part of the update, as in a Flower client that sends its state_dict.
    """
    settings = job.training
    named = dict(job.network.named_parameters())
    weights: list[torch.Tensor] = list(named.values())
    start = {name: tensor.clone() for name, tensor in state(job.network.train()).items()}
    steps: list[torch.Tensor] = []
    for batch in job.batches:
        inputs, labels = drawn(job, torch.from_numpy(batch))
        objective = loss(job.network(inputs), labels) + penalty(job.network)
        gradients = list(torch.autograd.grad(objective, weights))
        with torch.no_grad():
            if settings.weight_decay:
                torch._foreach_add_(gradients, weights, alpha=settings.weight_decay)
            if settings.momentum and steps:
                torch._foreach_mul_(steps, settings.momentum)
                torch._foreach_add_(steps, gradients)
            else:
                steps = gradients
            torch._foreach_add_(weights, steps, alpha=-settings.lr)
    update = {name: end - start[name] for name, end in state(job.network).items()}
    if len(job.batches) == 1:
        update |= {name: -settings.lr * step for name, step in zip(named, steps, strict=True)}
    return update


def drawn(job: Job, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and labels (or class probabilities) of a local step on these rows, as the defenses change them."""
    inputs, labels = job.inputs[rows], job.labels[rows]
    if job.augment is None or not len(rows):
        return inputs, labels
    if not labels.is_floating_point():
        classes = list(job.network.parameters())[-1].shape[0]
        labels = one_hot(labels, classes).float()
    batch = job.augment(Batch(inputs, labels))
    return batch.inputs, batch.targets
