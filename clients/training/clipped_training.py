"""Local training in which each record's gradient is clipped, without noise: a bound on what one record can do."""

import torch
from torch import Tensor

from fedinv.federation.training import Job, LocalTraining, Update
from fedinv.task.loss import loss
from fedinv.task.models import state
from fedinv.task.optimizers import Memory

from .plain_training import drawn


def clipped_training(norm: float) -> LocalTraining:
    """Training by the job's optimizer on the mean of its records' gradients, each clipped to `norm` over all of it.

    No differential privacy, as nothing random is added. A gradient that is not finite counts as zero.
    """

    def train(job: Job) -> Update:
        descent, class_weights = job.training.descent, job.training.weights()
        named = dict(job.network.named_parameters())
        weights: list[Tensor] = list(named.values())
        start = {name: tensor.clone() for name, tensor in state(job.network.train()).items()}
        begun, memory = [start[name] for name in named], Memory()
        for batch, lr in zip(job.batches, descent.lrs(len(job.batches)), strict=True):
            inputs, labels = drawn(job, torch.from_numpy(batch))
            mean = [torch.zeros_like(weight) for weight in weights]
            for at in range(len(inputs)):
                one = loss(job.network(inputs[at : at + 1]), labels[at : at + 1], class_weights=class_weights)
                gradients = torch.autograd.grad(one, weights)
                length = torch.stack([gradient.norm() for gradient in gradients]).norm()
                if bool(length.isfinite()):
                    scale = float((norm / length).clamp_max(1.0)) / len(inputs) if length > 0 else 0.0
                    torch._foreach_add_(mean, gradients, alpha=scale)
            with torch.no_grad():
                steps, memory = descent.direction(mean, weights, begun, memory)
                torch._foreach_add_(weights, steps, alpha=-lr)
        return {name: end - start[name] for name, end in state(job.network).items()}

    return train
