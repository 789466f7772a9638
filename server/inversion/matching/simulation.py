"""A client's local training on given records, simulated step by step, and the slopes of what follows from it.

The weights after some steps are a multiple of those that were sent minus a sum of batches' gradients D^T H, so that
they are never formed: X W^T = a X W0^T - sum c (X H^T) D, and likewise backward, for all restarts at once.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from ..activations import Activation, bend, curve
from ..local_training import Course
from .objective import Dense, Loss, by_columns


@dataclass(frozen=True)
class Batches:
    """The records that each local step is assumed to have used."""

    rows: Tensor
    """Positions of each step's records, int64 (guesses, T, b); restart r uses guess r modulo the number of guesses."""
    shares: Tensor
    """Weight of each of a step's records in its mean gradient, float32 (T, b); 0 for padding."""

    def take(self, restarts: int) -> Tensor:
        """The positions for each restart, int64 (restarts, T, b)."""
        return self.rows[torch.arange(restarts, device=self.rows.device) % len(self.rows)]

    @cached_property
    def whole(self) -> bool:
        """Whether each step uses the first b records in their order."""
        return torch.equal(self.rows, torch.arange(self.size, device=self.rows.device).expand_as(self.rows))

    @property
    def size(self) -> int:
        """Number of records of a step, padding included, b."""
        return self.rows.shape[2]


def drawn_batches(records: int, size: int, epochs: int, guesses: int, rng: np.random.Generator) -> Batches:
    """Draw `guesses` random orders: each epoch uses every record once, in batches of `size`, the last one smaller."""
    size = min(size, records)
    per_epoch = math.ceil(records / size)
    rows = np.zeros((guesses, epochs, per_epoch * size), np.int64)
    rows[..., :records] = rng.permuted(np.tile(np.arange(records), (guesses, epochs, 1)), axis=-1)
    there = (np.arange(per_epoch * size) < records).reshape(per_epoch, size)
    shares = np.tile(there / there.sum(1, keepdims=True), (epochs, 1))
    return Batches(torch.from_numpy(rows.reshape(guesses, epochs * per_epoch, size)), torch.from_numpy(shares).float())


def whole_batches(records: int, steps: int) -> Batches:
    """Batches of which each holds all records: to first order the mean over all orders."""
    rows = torch.arange(records).repeat(1, steps, 1)
    return Batches(rows, torch.full((steps, records), 1 / records))


@dataclass(frozen=True)
class Step:
    """What the way back needs of a simulated step, by layer."""

    hidden: tuple[Tensor, ...]
    """Inputs of each layer in the steps before, (restarts, records before, inputs of the layer)."""
    slopes: tuple[Tensor, ...]
    """Slopes of each layer's outputs in the steps before, (restarts, records before, outputs of the layer)."""
    values: list[Tensor] = field(default_factory=list)
    """Inputs of each layer in this step, (restarts, b, inputs of the layer)."""
    own: list[Tensor] = field(default_factory=list)
    """Slopes of each layer's outputs in this step, (restarts, b, outputs of the layer)."""
    steep: list[Tensor] = field(default_factory=list)
    """Derivatives of each activation at its units."""
    bent: list[Tensor | None] = field(default_factory=list)
    """Second derivatives of each activation at its units; None where they are zero everywhere."""
    ahead: list[Tensor] = field(default_factory=list)
    """Products of the step's records with those of the steps before, on the way forward, first layer first."""
    back: list[Tensor] = field(default_factory=list)
    """Slopes at each layer's inputs, from the second layer on."""
    behind: list[Tensor] = field(default_factory=list)
    """Products of the step's slopes with those of the steps before, from the second layer on."""
    answers: list[Tensor] = field(default_factory=list)
    """Softmax of the outputs and the weight of each record, of cross-entropy only."""


@dataclass(frozen=True)
class Trained:
    """A simulated training: each layer's weight changes by (kept[T] - 1) W0 - sum of moved[T] D^T H over the steps."""

    hidden: list[Tensor]
    """Inputs H of each layer in all steps, one after the other, (restarts, T b, inputs of the layer)."""
    slopes: list[Tensor]
    """Slopes D of each layer's outputs in all steps, (restarts, T b, outputs of the layer)."""
    steps: list[Step]


@dataclass(frozen=True)
class Simulation:
    """Local training of a chain of linear layers."""

    layers: tuple[Dense, ...]
    """Weights as they were sent, first layer first."""
    course: Course
    """Coefficients of the weights after each step."""
    batches: Batches
    loss: Loss = "cross-entropy"
    activation: Activation = "relu"
    class_weights: Tensor | None = None
    """Weight of each class in the loss, float32 (classes,); None: all weigh the same."""

    @cached_property
    def counts(self) -> list[Tensor]:
        """Coefficient of each record of the steps before in the weights at each step, and after the last, (step b,)."""
        moved = self.course.moved.to(self.layers[0].weight)
        return [moved[step, :step].repeat_interleave(self.batches.size) for step in range(self.course.steps + 1)]

    @cached_property
    def _columns(self) -> list[Tensor]:
        return [by_columns(layer.weight) for layer in self.layers]

    @cached_property
    def _kept(self) -> list[float]:
        kept: list[float] = self.course.kept.tolist()
        return kept

    def train(self, inputs: Tensor, labels: Tensor) -> Trained:
        """Train on inputs (restarts, n, width) with labels (restarts, n, outputs), not differentiable."""
        size = (len(inputs), self.course.steps * self.batches.size)
        hidden = [inputs.new_empty(*size, layer.weight.shape[1]) for layer in self.layers]
        slopes = [inputs.new_empty(*size, layer.weight.shape[0]) for layer in self.layers]
        trained, at = Trained(hidden, slopes, []), self._places(inputs)
        with torch.no_grad():
            for step in range(self.course.steps):
                here = () if at is None else (at[0], at[1][:, step])
                trained.steps.append(self._step(step, inputs[here], labels[here], trained))
        return trained

    def pull_back(
        self, trained: Trained, by_hidden: list[Tensor], by_slopes: list[Tensor], inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The slopes of a value with respect to inputs and labels, from those with respect to what training left.

        `by_hidden` and `by_slopes` are shaped as `hidden` and `slopes` of `trained`, and are changed.
        """
        by_inputs, by_labels = torch.zeros_like(inputs), torch.zeros_like(labels)
        at = self._places(inputs)
        with torch.no_grad():
            for step in reversed(range(self.course.steps)):
                by_own, by_answers = self._unstep(step, trained, by_hidden, by_slopes)
                if at is None:
                    by_inputs += by_own
                    by_labels += by_answers
                else:
                    here = (at[0], at[1][:, step])
                    by_inputs.index_put_(here, by_own, accumulate=True)
                    by_labels.index_put_(here, by_answers, accumulate=True)
        return by_inputs, by_labels

    def _places(self, inputs: Tensor) -> tuple[Tensor, Tensor] | None:
        """Restart and positions of each step's records; None where each step uses all records in their order."""
        if self.batches.whole and self.batches.size == inputs.shape[1]:
            return None
        return torch.arange(len(inputs), device=inputs.device)[:, None], self.batches.take(len(inputs))

    def _rows(self, step: int) -> tuple[slice, slice]:
        """Rows of the steps before, and those of the step itself."""
        size = self.batches.size
        return slice(0, step * size), slice(step * size, (step + 1) * size)

    def _scaled(self, step: int, units: Tensor) -> Tensor:
        """Units as the part of the weights that is left of those that were sent makes them."""
        kept = self._kept[step]
        return units if kept == 1 else kept * units

    def _step(self, step: int, inputs: Tensor, labels: Tensor, trained: Trained) -> Step:
        """Simulate a step, whose rows of `trained` are filled in."""
        before, here = self._rows(step)
        seen = Step(tuple(h[:, before] for h in trained.hidden), tuple(d[:, before] for d in trained.slopes))
        units, last = inputs, len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            seen.values.append(units)
            trained.hidden[i][:, here] = units
            units = self._scaled(step, linear(units, self._columns[i], layer.bias))
            if step:
                seen.ahead.append((torch.bmm(seen.values[i], seen.hidden[i].mT) + 1) * self.counts[step])
                units = units.baddbmm_(seen.ahead[i], seen.slopes[i], alpha=-1)
            if i < last:
                raw = units
                units, steep = curve(self.activation, raw)
                seen.steep.append(steep)
                seen.bent.append(bend(self.activation, units, raw))
        slope = self._slopes(step, units, labels, seen)
        for i in range(last, 0, -1):
            seen.own.insert(0, slope)
            trained.slopes[i][:, here] = slope
            back = self._scaled(step, slope @ self.layers[i].weight)
            if step:
                seen.behind.insert(0, torch.bmm(slope, seen.slopes[i].mT) * self.counts[step])
                back = back.baddbmm_(seen.behind[0], seen.hidden[i], alpha=-1)
            seen.back.insert(0, back)
            slope = back * seen.steep[i - 1]
        seen.own.insert(0, slope)
        trained.slopes[0][:, here] = slope
        return seen

    def _slopes(self, step: int, units: Tensor, labels: Tensor, seen: Step) -> Tensor:
        """Slopes of the step's mean loss at the network's outputs."""
        share = self.batches.shares[step][:, None]
        if self.loss != "cross-entropy":
            return 2 * (units - labels) * share / units.shape[-1]
        answers = units.softmax(-1)
        seen.answers.append(answers)
        if self.class_weights is None:
            return (answers - labels) * share
        labels = labels * self.class_weights
        seen.answers.append(labels.sum(-1, keepdim=True))
        return (answers * seen.answers[1] - labels) * share

    def _unslopes(self, step: int, by_slope: Tensor, seen: Step) -> tuple[Tensor, Tensor]:
        """The slopes with respect to the network's outputs and the labels, from those with respect to `_slopes`."""
        share = self.batches.shares[step][:, None]
        if self.loss != "cross-entropy":
            along = 2 * (by_slope / by_slope.shape[-1] * share)
            return along, -along
        carried, answers = by_slope * share, seen.answers[0]
        by_labels = -carried
        along = carried * answers
        if self.class_weights is not None:
            by_labels = self.class_weights * (along.sum(-1, keepdim=True) - carried)
            carried = carried * seen.answers[1]
            along = carried * answers
        return (carried - along.sum(-1, keepdim=True)) * answers, by_labels

    def _unstep(
        self, step: int, trained: Trained, by_hidden: list[Tensor], by_slopes: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The slopes with respect to a step's inputs and labels; those with respect to the steps before are added."""
        seen, (before, own), last = trained.steps[step], self._rows(step), len(self.layers) - 1
        by_bend, carried = list[Tensor | None](), by_slopes[0][:, own]
        for i in range(1, last + 1):
            bent, back = seen.bent[i - 1], seen.back[i - 1]
            by_bend.append(None if bent is None else carried * back * bent)
            by_back, carried = carried * seen.steep[i - 1], by_slopes[i][:, own]
            if step:
                shared = torch.bmm(by_back, seen.hidden[i].mT) * self.counts[step]
                carried = torch.baddbmm(carried, shared, seen.slopes[i], alpha=-1)
                by_hidden[i][:, before].baddbmm_(seen.behind[i - 1].mT, by_back, alpha=-1)
                by_slopes[i][:, before].baddbmm_(shared.mT, seen.own[i], alpha=-1)
            carried = (self._scaled(step, by_back) @ self._columns[i].T).add_(carried)
        carried, by_labels = self._unslopes(step, carried, seen)
        for i in range(last, -1, -1):
            by_value = by_hidden[i][:, own]
            if step:
                shared = torch.bmm(carried, seen.slopes[i].mT) * self.counts[step]
                by_value = torch.baddbmm(by_value, shared, seen.hidden[i], alpha=-1)
                by_hidden[i][:, before].baddbmm_(shared.mT, seen.values[i], alpha=-1)
                by_slopes[i][:, before].baddbmm_(seen.ahead[i].mT, carried, alpha=-1)
            by_value = (self._scaled(step, carried) @ self.layers[i].weight).add_(by_value)
            if i:
                own_bend = by_bend[i - 1]
                carried = by_value.mul_(seen.steep[i - 1])
                carried = carried if own_bend is None else carried.add_(own_bend)
        return by_value, by_labels
