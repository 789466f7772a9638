"""Back-propagated signals of records, and the labels and targets that they reveal."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge, Weights
from fedinv.task.models import AnyModel

from ..local_training import gradient_weights, known_network, single_step, step_length


@dataclass(frozen=True)
class Labeled:
    """Labels of n records by their signals."""

    counts: Tensor
    """Times that each record was in the batch with each label, int64 (n, classes); usually once with one label."""
    likeness: Tensor
    """Cosine similarity, 0 to 1, between each observed signal and the one expected with these labels, (n,)."""


@dataclass(frozen=True)
class Targeted:
    """Regression targets of n records by their signals."""

    targets: Tensor | None
    """Standardized targets, float32 (n,); None where the signals' scale is not known."""
    likeness: Tensor
    """Absolute cosine similarity between each observed signal and the one expected with any target, (n,)."""
    notes: tuple[str, ...]
    """Remarks for the claim: why there are no targets, or that they are estimates."""


def target(knows: Knowledge, last: Exchange, records: Tensor, signals: Tensor) -> Targeted:
    """Find the targets with which records (n, d) have the signals (n, h), for the squared error of one output.

    A signal is -2 step (prediction - target) J^T, J being the prediction's slopes by the first layer's units and `step`
    the step length over the number of records, so that the target follows. A record that is in the batch more than once
    counts once. Several local steps are approximated by one at the weights halfway. Raises ValueError when the
    architecture is withheld or does not fit the weights.
    """
    if knows.model is None:
        raise ValueError("the architecture is withheld")
    single = single_step(knows, last.records)
    predicted, jacobian = _passed(knows.model, gradient_weights(last, single), records)
    slopes = jacobian[:, 0]
    likeness = torch.cosine_similarity(slopes, signals, dim=1).abs()
    length = step_length(knows, last.records)
    if length is None:
        return Targeted(None, likeness, ("the learning rate or the number of steps is withheld: no targets",))
    along = (slopes * signals).sum(1) / slopes.square().sum(1).clamp_min(1e-30)
    targets = predicted[:, 0] + along * last.records / (2 * length)
    notes = () if single else ("targets are estimates: several local steps moved the weights",)
    return Targeted(targets.float(), likeness, notes)


def label(model: AnyModel, sent: Weights, records: Tensor, signals: Tensor, step: float | None, most: int) -> Labeled:
    """Find the labels with which records (n, d) have the signals (n, h), their factors in the first layer's update.

    A signal is J^T (total * softmax - counts), J being the Jacobian of the logits by the first layer's units. With
    `step`, the length of a single step over the number of records, counts up to `most` are solved for, so that repeated
    records are recognized; without it, or where the solution is not integer (clipping), each record gets the one label
    whose expected signal is most similar. Raises ValueError when the model does not fit the weights.
    """
    logits, jacobian = _passed(model, sent, records)
    chances, classes = logits.softmax(1), logits.shape[1]
    gradients = chances[:, None] - torch.eye(classes, dtype=chances.dtype)
    expected = -gradients @ jacobian
    likeness = torch.cosine_similarity(expected, signals[:, None], dim=2)
    best = likeness.argmax(1)
    counts = torch.nn.functional.one_hot(best, classes)
    likeness = likeness.gather(1, best[:, None])[:, 0]
    if step is not None and most > 1:
        for i in range(len(records)):
            several = _several(jacobian[i], chances[i], signals[i] / -step, most)
            if several is not None:
                counts[i], likeness[i] = several
    return Labeled(counts, likeness.clamp(0, 1))


def _passed(model: AnyModel, sent: Weights, records: Tensor) -> tuple[Tensor, Tensor]:
    """Each record's logits (n, classes) and their slopes by the first layer's units (n, classes, h)."""
    network = known_network(model, {name: tensor.double() for name, tensor in sent.items()})
    units = network[0](records.double()).detach().requires_grad_()
    logits = network[1:](units) if len(network) > 1 else units
    classes = range(logits.shape[1])
    slopes = [torch.autograd.grad(logits[:, c].sum(), units, retain_graph=True)[0] for c in classes]
    return logits.detach(), torch.stack(slopes, 1)


def _several(jacobian: Tensor, chances: Tensor, signal: Tensor, most: int) -> tuple[Tensor, Tensor] | None:
    gradient = torch.linalg.lstsq(jacobian.T, signal[:, None]).solution[:, 0]
    for total in range(1, most + 1):
        wanted = total * chances - gradient
        counts = wanted.round()
        if float((wanted - counts).abs().max()) < 0.05 and float(counts.min()) >= 0 and int(counts.sum()) == total:
            again = (total * chances - counts) @ jacobian
            return counts.long(), torch.cosine_similarity(again, signal, dim=0)
    return None
