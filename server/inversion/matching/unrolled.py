"""The objective for several local steps: how far the client's training on the records is from its update."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge
from fedinv.task.optimizers import LocalDescent

from ..local_training import Course, course, local_steps
from .chain import Chain, Direction, Standard, directions
from .compressed.partial import Coordinates, Partial, coordinates
from .objective import Distance, dense_layers, slopes_of
from .simulation import Batches, Simulation, whole_batches


@dataclass(frozen=True)
class _Compared:
    """An update slopes^T hidden beside the target, tensors by layer."""

    hidden: list[Tensor]
    """Inputs H, standardized where updates are compared so, (restarts, T b, inputs)."""
    along: list[Tensor]
    """The target's products with them, (restarts, T b, outputs)."""
    pairs: list[Tensor]
    """Products D D^T of the slopes, (restarts, T b, T b)."""
    grams: list[Tensor]
    """Products H H^T + 1 of the inputs, (restarts, T b, T b)."""
    value: Tensor
    """Misfit (restarts,)."""
    by_dot: Tensor
    """Derivative of the misfit with respect to the product with the target, (restarts,)."""
    by_square: Tensor
    """Derivative of the misfit with respect to the update's squared norm, (restarts,)."""


@dataclass(frozen=True)
class Unrolled:
    """An Objective: the distance between the update and the one that training on the records would have given.

    Dimitrov et al. 2022 (Data leakage in federated averaging), section 4.1, for a chain of linear layers.
    """

    simulation: Simulation
    """The client's training."""
    target: tuple[Direction, ...]
    """The negated update without the effect of weight decay, scaled to norm 1; for standardized inputs if `standard` is
    given."""
    size: float
    """Norm of the update that `target` is scaled from."""
    distance: Distance = "cosine"
    standard: Standard | None = None
    """Standardization of the inputs under which updates are compared; None: as they are."""
    known: Coordinates | None = None
    """The coordinates that depend on the gradient; None: all do."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The misfit (restarts,) and its slopes with respect to inputs and labels; see Objective."""
        if self.known is not None:
            return self._evaluated(inputs, labels)
        with torch.inference_mode():  # nothing is differentiated: for that torch keeps books, a quarter of small work
            value, by_inputs, by_labels = self._evaluated(inputs, labels)
        return value.clone(), by_inputs.clone(), by_labels.clone()  # tensors as all others, which may be changed

    def misfit(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The misfit (restarts,) without slopes, not differentiable."""
        trained = self.simulation.train(inputs, labels)
        slopes = self._weighted(trained.slopes)
        if self.known is not None:
            return self.known.misfit(trained.hidden, slopes)
        return self._compared(trained.hidden, slopes).value

    def _evaluated(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        trained = self.simulation.train(inputs, labels)
        value, by_hidden, by_slopes = self._steepest(trained.hidden, self._weighted(trained.slopes))
        for slope in by_slopes:
            slope.mul_(self.simulation.counts[-1][:, None])
        return value, *self.simulation.pull_back(trained, by_hidden, by_slopes, inputs, labels)

    def _weighted(self, slopes: list[Tensor]) -> list[Tensor]:
        """Slopes (restarts, T b, outputs) by how much each changed the weights after the last step."""
        return [slope * self.simulation.counts[-1][:, None] for slope in slopes]

    def _steepest(self, hidden: list[Tensor], slopes: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The misfit (restarts,) of an update whose layers are slopes^T hidden, and its slopes with respect to both."""
        if self.known is not None:
            with torch.enable_grad():
                left = [tensor.detach().requires_grad_() for tensor in (*hidden, *slopes)]
                value = self.known.misfit(left[: len(hidden)], left[len(hidden) :])
                steep = list(torch.autograd.grad(value.sum(), left, materialize_grads=True))
            return value.detach(), steep[: len(hidden)], steep[len(hidden) :]
        seen = self._compared(hidden, slopes)
        by_dot, by_square = seen.by_dot[:, None, None], 2 * seen.by_square[:, None, None]
        by_hidden, by_slopes = [], []
        for h, d, along, pairs, grams, t in zip(
            seen.hidden, slopes, seen.along, seen.pairs, seen.grams, self.target, strict=True
        ):
            by_hidden.append(t.of_outputs(d).mul_(by_dot).baddbmm_(by_square * pairs, h))
            by_slopes.append(along.mul_(by_dot).baddbmm_(by_square * grams, d))
        if self.standard is not None:
            by_hidden[0] = by_hidden[0] / self.standard.std
        return seen.value, by_hidden, by_slopes

    def _compared(self, hidden: list[Tensor], slopes: list[Tensor]) -> "_Compared":
        """An update whose layers are slopes^T hidden beside the target; the chain's products, over all steps."""
        if self.standard is not None:
            hidden = [(hidden[0] - self.standard.mean) / self.standard.std, *hidden[1:]]
        along = [t.of_inputs(h) for t, h in zip(self.target, hidden, strict=True)]
        pairs, grams = [d @ d.mT for d in slopes], [h @ h.mT + 1 for h in hidden]
        dot = torch.stack([(d * a).sum((1, 2)) for d, a in zip(slopes, along, strict=True)]).sum(0)
        square = torch.stack([(e * k).sum((1, 2)) for e, k in zip(pairs, grams, strict=True)]).sum(0)
        return _Compared(hidden, along, pairs, grams, *slopes_of(self.distance, dot, square, self.size))

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`."""
        size, layers = self.simulation.batches.size, self.simulation.layers
        rows = self.simulation.course.steps * size
        once = sum(layer.weight.numel() for layer in layers) * rows
        again = sum(sum(layer.weight.shape) for layer in layers) * rows * (rows - size) / 2
        return 12.0 * once + 12.0 * again + (0.0 if self.known is None else 6.0 * once)

    def held(self, records: int) -> int:
        """Numbers that one call holds in memory per intermediate tensor and restart."""
        steps, layers = self.simulation.course.steps, self.simulation.layers
        most = steps**2 * self.simulation.batches.size * max(max(layer.weight.shape) for layer in layers)
        return most if self.known is None else max(most, *(2 * layer.weight.numel() for layer in layers))


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
    used = Batches(batches.rows.to(device), batches.shares.to(device))
    simulation = Simulation(dense_layers(sent), plan, used, chain.loss, chain.activation, chain.class_weights)
    return Unrolled(simulation, directions(moved, rows), size, chain.distance, chain.standard, known)


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
