"""What a record sends back through the network, and the label that it gives away."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Weights
from fedinv.models import AnyModel, load


@dataclass(frozen=True)
class Labeled:
    """Labels of n records as their signals tell them."""

    counts: Tensor
    """(n, classes) int64: how often the record was there with each label; usually once with one."""
    likeness: Tensor
    """(n,) cosine between the signal found and the one the record sends with these labels, 0 to 1."""


def label(model: AnyModel, sent: Weights, records: Tensor, signals: Tensor, step: float | None, most: int) -> Labeled:
    """Find the labels with which records (n, d) send back signals (n, h), their parts in the first layer's update.

    A signal is J^T (total * softmax - counts), J being the Jacobian of the logits by the first layer's units. With
    `step`, the length of a single step over the number of records, counts up to `most` are solved for, so that a record
    which is there more than once is known; without it, or where they are no whole numbers (clipping), each record has
    the one label whose signal is most alike. Raises ValueError when the model does not fit the weights.
    """
    shapes = [tensor.shape for tensor in sent.values()]
    try:
        network = load(model, shapes[0][1:], shapes[-1][0], {name: tensor.double() for name, tensor in sent.items()})
    except (RuntimeError, ValueError) as error:
        raise ValueError("the weights that were sent are not of the architecture that is known") from error
    units = network[0](records.double()).detach().requires_grad_()
    logits = network[1:](units) if len(network) > 1 else units
    classes = range(logits.shape[1])
    jacobian = torch.stack([torch.autograd.grad(logits[:, c].sum(), units, retain_graph=True)[0] for c in classes], 1)
    chances = logits.detach().softmax(1)

    gradients = chances[:, None] - torch.eye(len(classes), dtype=chances.dtype)
    expected = -gradients @ jacobian
    likeness = torch.cosine_similarity(expected, signals[:, None], dim=2)
    best = likeness.argmax(1)
    counts = torch.nn.functional.one_hot(best, len(classes))
    likeness = likeness.gather(1, best[:, None])[:, 0]
    if step is not None and most > 1:
        for i in range(len(records)):
            several = _several(jacobian[i], chances[i], signals[i] / -step, most)
            if several is not None:
                counts[i], likeness[i] = several
    return Labeled(counts, likeness.clamp(0, 1))


def _several(jacobian: Tensor, chances: Tensor, signal: Tensor, most: int) -> tuple[Tensor, Tensor] | None:
    gradient = torch.linalg.lstsq(jacobian.T, signal[:, None]).solution[:, 0]
    for total in range(1, most + 1):
        wanted = total * chances - gradient
        counts = wanted.round()
        if float((wanted - counts).abs().max()) < 0.05 and float(counts.min()) >= 0 and int(counts.sum()) == total:
            again = (total * chances - counts) @ jacobian
            return counts.long(), torch.cosine_similarity(again, signal, dim=0)
    return None
