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
        trained, count = self.simulation.train(inputs, labels), len(self.target)
        left = [*trained.hidden, *self._weighted(trained.slopes)]
        with torch.enable_grad():
            left = [tensor.detach().requires_grad_() for tensor in left]
            value = self._distance(left[:count], left[count:])
            by_left = list(torch.autograd.grad(value.sum(), left, materialize_grads=True))
        by_hidden, by_slopes = by_left[:count], self._weighted(by_left[count:])
        return value.detach(), *self.simulation.pull_back(trained, by_hidden, by_slopes, inputs, labels)

    def misfit(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The misfit (restarts,) without slopes, not differentiable."""
        trained = self.simulation.train(inputs, labels)
        return self._distance(trained.hidden, self._weighted(trained.slopes))

    def _weighted(self, slopes: list[Tensor]) -> list[Tensor]:
        """Slopes (restarts, T b, outputs) by how much each changed the weights after the last step."""
        return [slope * self.simulation.counts[-1][:, None] for slope in slopes]

    def _distance(self, hidden: list[Tensor], slopes: list[Tensor]) -> Tensor:
        """The misfit (restarts,) of an update whose layers are slopes^T hidden."""
        if self.known is not None:
            return self.known.misfit(hidden, slopes)
        if self.standard is not None:
            hidden = [(hidden[0] - self.standard.mean) / self.standard.std, *hidden[1:]]
        dot, square = hidden[0].new_zeros(len(hidden[0])), hidden[0].new_zeros(len(hidden[0]))
        for h, d, t in zip(hidden, slopes, self.target, strict=True):
            dot = dot + (d * t.of_inputs(h)).sum((1, 2))
            square = square + ((d @ d.mT) * (h @ h.mT + 1)).sum((1, 2))
        return slopes_of(self.distance, dot, square, self.size)[0]

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
