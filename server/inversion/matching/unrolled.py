"""The objective for several local steps: a client's training on the records, simulated step by step.

The weights after some steps are a multiple of those that were sent minus a sum of batches' gradients D^T H, so that
they are never formed: X W^T = a X W0^T - sum c (X H^T) D, and likewise backward, for all restarts at once.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from fedinv.attack import Exchange, Knowledge
from fedinv.task.optimizers import LocalDescent

from ..activations import Activation, curve
from ..local_training import Course, course, local_steps
from .chain import Chain, Direction, Standard, directions
from .compressed.partial import Coordinates, Partial, coordinates
from .objective import Dense, Distance, Loss, dense_layers, slopes_of


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
class Unrolled:
    """An Objective: the distance between the update and the one that training on the records would have given.

    Dimitrov et al. 2022 (Data leakage in federated averaging), section 4.1, for a chain of linear layers.
    """

    layers: tuple[Dense, ...]
    """Weights as they were sent, first layer first."""
    target: tuple[Direction, ...]
    """The negated update without the effect of weight decay, scaled to norm 1; for standardized inputs if `standard` is
    given."""
    course: Course
    """Coefficients of the weights after each step."""
    batches: Batches
    size: float
    """Norm of the update that `target` is scaled from."""
    distance: Distance = "cosine"
    loss: Loss = "cross-entropy"
    activation: Activation = "relu"
    standard: Standard | None = None
    """Standardization of the inputs under which updates are compared; None: as they are."""
    known: Coordinates | None = None
    """The coordinates that depend on the gradient; None: all do."""
    class_weights: Tensor | None = None
    """Weight of each class in the loss, float32 (classes,); None: all weigh the same."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The misfit (restarts,) and its slopes with respect to inputs and labels; see Objective."""
        with torch.enable_grad():
            x, y = inputs.detach().requires_grad_(), labels.detach().requires_grad_()
            value = self.misfit(x, y)
            by_inputs, by_labels = torch.autograd.grad(value.sum(), (x, y))
        return value.detach(), by_inputs, by_labels

    def misfit(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The misfit (restarts,) without slopes, differentiable."""
        hidden, slopes = self.train(inputs, labels)
        if self.known is not None:
            return self.known.misfit(hidden, slopes)
        if self.standard is not None:
            hidden[0] = (hidden[0] - self.standard.mean) / self.standard.std
        dot, square = inputs.new_zeros(len(inputs)), inputs.new_zeros(len(inputs))
        for h, d, t in zip(hidden, slopes, self.target, strict=True):
            dot = dot + (d * t.of_inputs(h)).sum((1, 2))
            square = square + ((d @ d.mT) * (h @ h.mT + 1)).sum((1, 2))
        return slopes_of(self.distance, dot, square, self.size)[0]

    def train(self, inputs: Tensor, labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Train on inputs (restarts, n, width) with labels (restarts, n, outputs).

        Returns for each layer hidden (restarts, T b, inputs of the layer) and slopes (restarts, T b, its outputs): its
        weight changes by (kept[T] - 1) W0 - slopes^T hidden, its bias likewise.
        """
        rows = self.batches.take(len(inputs))
        which = torch.arange(len(inputs), device=inputs.device)[:, None]
        passed: list[list[Tensor]] = [[] for _ in self.layers]
        pushed: list[list[Tensor]] = [[] for _ in self.layers]
        for step in range(self.course.steps):
            at = rows[:, step]
            hidden, slopes = self._step(step, inputs[which, at], labels[which, at], passed, pushed)
            for i in range(len(self.layers)):
                passed[i].append(hidden[i])
                pushed[i].append(slopes[i])
        last = self._counts(self.course.steps, inputs)
        return [torch.cat(h, 1) for h in passed], [torch.cat(d, 1) * last[:, None] for d in pushed]

    def _counts(self, step: int, like: Tensor) -> Tensor:
        """Coefficient of each record of the steps before `step` in the weights at it, (step b,)."""
        moved = self.course.moved[step, :step].to(like)
        return moved.repeat_interleave(self.batches.rows.shape[2])

    def _step(
        self, step: int, inputs: Tensor, labels: Tensor, passed: list[list[Tensor]], pushed: list[list[Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        kept, counts = float(self.course.kept[step]), self._counts(step, inputs)
        before = [(torch.cat(h, 1), torch.cat(d, 1)) for h, d in zip(passed, pushed, strict=True)] if step else []
        hidden, steep, units = [inputs], [], inputs
        for i, layer in enumerate(self.layers):
            units = kept * linear(hidden[i], layer.weight, layer.bias)
            if before:
                h, d = before[i]
                units = torch.baddbmm(units, (hidden[i] @ h.mT + 1) * counts, d, alpha=-1)
            if i < len(self.layers) - 1:
                value, slope = curve(self.activation, units)
                hidden.append(value)
                steep.append(slope)
        share = self.batches.shares[step][:, None].to(inputs.device)
        if self.loss == "cross-entropy":
            weight: Tensor | float = 1.0
            if self.class_weights is not None:
                labels = labels * self.class_weights
                weight = labels.sum(-1, keepdim=True)
            slopes = [(units.softmax(-1) * weight - labels) * share]
        else:
            slopes = [2 * (units - labels) * share / units.shape[-1]]
        for i in range(len(self.layers) - 1, 0, -1):
            back = kept * (slopes[0] @ self.layers[i].weight)
            if before:
                h, d = before[i]
                back = torch.baddbmm(back, (slopes[0] @ d.mT) * counts, h, alpha=-1)
            slopes.insert(0, back * steep[i - 1])
        return hidden, slopes

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`."""
        rows, size = self.batches.rows.shape[1] * self.batches.rows.shape[2], self.batches.rows.shape[2]
        once = sum(layer.weight.numel() for layer in self.layers) * rows
        again = sum(sum(layer.weight.shape) for layer in self.layers) * rows * (rows - size) / 2
        return 12.0 * once + 12.0 * again + (0.0 if self.known is None else 6.0 * once)

    def held(self, records: int) -> int:
        """Numbers that one call holds in memory per intermediate tensor and restart."""
        rows = self.batches.rows.shape[1] * self.batches.rows.shape[2]
        most = self.course.steps * rows * max(max(layer.weight.shape) for layer in self.layers)
        return most if self.known is None else max(most, *(2 * layer.weight.numel() for layer in self.layers))


def unrolled(chain: Chain, exchange: Exchange, plan: Course, batches: Batches) -> Unrolled:
    """The objective of simulated training behind an exchange, with the distance and coordinates of `chain`.

    Raises ValueError where the update is nothing but weight decay.
    """
    kept = float(plan.kept[-1]) - 1
    device = chain.layers[0].weight.device
    sent = {name: tensor.float().to(device) for name, tensor in exchange.sent.items()}
    moved = dense_layers({k: t.float().to(device) - kept * sent[k] for k, t in exchange.received.items()})
    if chain.standard is not None:
        moved = (chain.standard.change(moved[0]), *moved[1:])
    size = math.sqrt(sum(float(t.double().square().sum()) for layer in moved for t in vars(layer).values()))
    rows = batches.rows[0].numel()
    known = coordinates(moved, chain.known.masks, chain.known.signs) if isinstance(chain, Partial) else None
    return Unrolled(
        dense_layers(sent),
        directions(moved, rows),
        plan,
        Batches(batches.rows.to(device), batches.shares.to(device)),
        size,
        chain.distance,
        chain.loss,
        chain.activation,
        chain.standard,
        known,
        chain.class_weights,
    )


def simulated(chain: Chain, exchange: Exchange, knows: Knowledge, length: float, most: int) -> Unrolled:
    """The objective of simulated training whose order is unknown: each step on all records, at most `most` steps.

    The mean over orders is nearer to the true order than another one drawn. Longer training is simulated in fewer and
    longer steps with the same sum of learning rates, `length`.
    """
    n, steps = exchange.records, local_steps(knows, exchange.records)
    if steps is not None and steps <= most and knows.lr is not None:
        plan = course(knows.descent, steps)
    else:
        even = LocalDescent(length / most, weight_decay=knows.weight_decay or 0.0, proximal=knows.proximal or 0.0)
        plan = course(even, most)
    return unrolled(chain, exchange, plan, whole_batches(n, plan.steps))


def likeliest_length(
    chain: Chain, exchange: Exchange, knows: Knowledge, inputs: Tensor, labels: Tensor, most: int
) -> float:
    """The sum of learning rates at which these records (1, n, width) explain the update best, from 6e-4 to 17."""
    squared = replace(chain, distance="squared")

    def distance(length: float) -> float:
        value = simulated(squared, exchange, knows, length, most).misfit(inputs, labels)
        return float(value.nan_to_num(nan=math.inf)[0])

    with torch.no_grad():
        coarse = min((float(s) for s in np.geomspace(1e-3, 10, 17)), key=distance)
        return min((coarse * float(s) for s in np.geomspace(0.6, 1 / 0.6, 11)), key=distance)
