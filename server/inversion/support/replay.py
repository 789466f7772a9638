"""Repeats a client's local steps on claimed records in float64, and differentiates what an optimizer makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.task.optimizers import LocalDescent, Memory

NUDGE = 1e-5
"""Change of a gradient by which its response is differentiated, relative to the entry's largest one."""
TINY = 1e-20
"""Least such change, in the gradient's unit."""


def joined(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """A chain's layers, or their updates, each (outputs, inputs + 1), float64, the bias last."""
    pairs = list(tensors.values())
    return [torch.cat([w, b[:, None]], 1).double() for w, b in zip(pairs[::2], pairs[1::2], strict=True)]


@dataclass(frozen=True)
class Course:
    """A client's local training up to the records that it used."""

    start: list[Tensor]
    """Layers as sent, each (outputs, inputs + 1), float64."""
    descent: LocalDescent
    steps: tuple[Tensor, ...]
    """Positions of each step's records, int64."""
    labels: Tensor
    """Classes of the records, int64 (n,)."""
    weights: Tensor
    """Weight of each class in the loss, (classes,)."""

    def through(self, steps: Sequence[Tensor]) -> "Course":
        """The same training with other batches."""
        return replace(self, steps=tuple(steps))


@dataclass(frozen=True)
class Pass:
    """One step of a replay: the forward and backward pass over its batch of b records."""

    rows: Tensor
    """Positions of the records, int64 (b,)."""
    layers: list[Tensor]
    """Layers before the step."""
    inputs: list[Tensor]
    """Inputs of each layer with a 1 appended, (b, inputs + 1)."""
    slopes: list[Tensor]
    """Gradient of the batch's mean loss at each layer's outputs, by record, (b, outputs)."""
    jacobians: list[Tensor]
    """Derivatives of the logits by each layer's outputs, (b, classes, outputs)."""
    curve: Tensor
    """Derivatives of the slopes at the logits by the logits, (b, classes, classes)."""

    def gradients(self) -> list[Tensor]:
        """Gradient of the batch's mean loss by each layer, (outputs, inputs + 1)."""
        return [s.T @ h for s, h in zip(self.slopes, self.inputs, strict=True)]


def passed(layers: list[Tensor], records: Tensor, labels: Tensor, weights: Tensor, rows: Tensor) -> Pass:
    """Forward and backward pass over the records (n, d) at `rows` through ReLU layers and cross-entropy."""
    x, y = records[rows], labels[rows]
    one = x.new_ones(len(x), 1)
    inputs = [torch.cat([x, one], 1)]
    for layer in layers[:-1]:
        inputs.append(torch.cat([(inputs[-1] @ layer.T).clamp_min(0), one], 1))
    chance = (inputs[-1] @ layers[-1].T).softmax(1)
    weight = weights[y] / weights[y].sum()
    slope = (chance - one_hot(y, chance.shape[1])) * weight[:, None]
    curve = (torch.diag_embed(chance) - chance[:, :, None] * chance[:, None]) * weight[:, None, None]
    jacobians = [torch.eye(chance.shape[1], dtype=x.dtype).expand(len(x), -1, -1)]
    for k in range(len(layers) - 1, 0, -1):
        jacobians.insert(0, (jacobians[0] @ layers[k][:, :-1]) * (inputs[k][:, None, :-1] > 0))
    slopes = [(slope[:, None] @ j)[:, 0] for j in jacobians]
    return Pass(rows, layers, inputs, slopes, jacobians, curve)


def replay(course: Course, records: Tensor) -> tuple[list[Pass], list[Tensor]]:
    """Each step's pass over records (n, d), and the change of each layer over all steps."""
    at, memory, moved = list(course.start), Memory(), [torch.zeros_like(w) for w in course.start]
    seen = []
    for rows, lr in zip(course.steps, course.descent.lrs(len(course.steps)), strict=True):
        one = passed(at, records, course.labels, course.weights, rows)
        seen.append(one)
        direction, memory = course.descent.direction(one.gradients(), at, course.start, memory)
        moved = [m.sub(d, alpha=lr) for m, d in zip(moved, direction, strict=True)]
        at = [s + m for s, m in zip(course.start, moved, strict=True)]
    return seen, moved


def response(descent: LocalDescent, gradients: Tensor, weights: Tensor) -> Tensor:
    """Derivatives (T, p) of the change of p entries of weights by their gradients (T, p) at each of T steps.

    By differences, as an optimizer need not be differentiable by torch: all steps' side by side, entry by entry.
    """
    count = len(gradients)
    nudge = NUDGE * gradients.abs().amax(0).clamp_min(TINY)
    rows = gradients[:, None].repeat(1, count + 1, 1)  # (step, changed step or none, entry)
    rows[torch.arange(count), torch.arange(count)] += nudge
    moved = moves(descent, rows, weights)
    return (moved[:-1] - moved[-1]) / nudge


def moves(descent: LocalDescent, gradients: Tensor, weights: Tensor) -> Tensor:
    """The changes (..., p) that entries of weights (p,) make under gradients (T, ..., p)."""
    begun = weights.expand(gradients.shape[1:])
    at, moved, memory = begun, torch.zeros_like(begun), Memory()
    for gradient, lr in zip(gradients, descent.lrs(len(gradients)), strict=True):
        direction, memory = descent.direction([gradient], [at], [begun], memory)
        moved = moved - lr * direction[0]
        at = begun + moved
    return moved
