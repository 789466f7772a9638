"""The gradient-matching objective of a chain of linear layers, with its derivatives in closed form.

A layer's weight gradient is D^T H, with D the slopes at its outputs and H its inputs, so that products of gradients
need no gradient: <D^T H, T> = sum D o (H T^T)   and   |D^T H|^2 = sum (D D^T) o (H H^T).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedinv.task.networks.perceptron import Logistic, Mlp

from ..activations import Activation, bend, curve
from .objective import Dense, Distance, Loss, by_columns, slopes_of

RANKS = (64, 128)
"""Ranks up to which a layer's update is factored, tried in turn; beyond, it is used as a full matrix."""
SPARE = 8
"""Random directions drawn beyond the expected rank, so that the projection misses none."""


@dataclass(frozen=True)
class Direction:
    """One layer of the target direction; its weight T is a product of two factors where they are smaller."""

    left: Tensor
    """Left factor of the weight, float32 (outputs, rank), or all of it, (outputs, inputs)."""
    right: Tensor | None
    """Right factor of the weight, float32 (rank, inputs); None where `left` is all of it."""
    bias: Tensor
    """Bias t, float32 (outputs,)."""

    def of_inputs(self, hidden: Tensor) -> Tensor:
        """The products H T^T + t, from inputs (..., inputs) to (..., outputs)."""
        left, right = self._columns
        short = hidden if right is None else hidden @ right.T
        return (short @ left.T).add_(self.bias)

    def of_outputs(self, slopes: Tensor) -> Tensor:
        """The products D T, from slopes (..., outputs) to (..., inputs)."""
        short = slopes @ self.left
        return short if self.right is None else short @ self.right

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor | None]:
        return by_columns(self.left), None if self.right is None else by_columns(self.right)


def directions(update: tuple[Dense, ...], records: int) -> tuple[Direction, ...]:
    """The negated update scaled to norm 1 over all layers, each layer of low rank factored.

    A batch of n records changes a layer by a matrix of rank n at most, T steps on it by one of rank T n; a random
    projection finds it (Halko et al. 2011, algorithm 4.1). Raises ValueError for an update of norm zero.
    """
    norm = float(sum(u.weight.double().square().sum() + u.bias.double().square().sum() for u in update) ** 0.5)
    if not norm > 0:
        raise ValueError("the update is zero")
    return tuple(_direction(-u.weight / norm, -u.bias / norm, records) for u in update)


def _direction(weight: Tensor, bias: Tensor, records: int) -> Direction:
    for rank in (records + SPARE, *RANKS):
        if rank <= RANKS[-1] and 1.5 * rank * sum(weight.shape) < weight.numel():
            factors = _factors(weight, rank)
            if factors is not None:
                return Direction(*factors, bias)
    return Direction(weight, None, bias)


def _factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor] | None:
    """Factors (outputs, r) and (r, inputs) of a weight with r <= rank; None where their product would not be exact."""
    draws = torch.randn(weight.shape[1], rank, generator=torch.Generator().manual_seed(0)).to(weight)
    basis, spread = torch.linalg.qr(weight @ draws)
    basis = basis[:, spread.diagonal().abs() > 1e-6 * spread.diagonal().abs().max()]
    rest = basis.T @ weight
    exact = torch.linalg.norm(weight - basis @ rest) <= 1e-5 * torch.linalg.norm(weight)
    return (basis, rest) if bool(exact) else None


@dataclass(frozen=True)
class Standard:
    """Standardization of the network's inputs h, x = (h - mean) / std, that leaves its outputs as they are.

    The network of x has first-layer weights W std and bias b + W mean, and its gradient follows exactly from the other:
    (G - g mean^T) / std. Distances between gradients differ: rare categories get as much weight as common ones, and
    fewer restarts end in wrong minima.
    """

    mean: Tensor
    """Mean of each input, float32 (inputs,)."""
    std: Tensor
    """Standard deviation of each input, positive, float32 (inputs,)."""

    def layer(self, layer: Dense) -> Dense:
        """The first layer of the network of standardized inputs."""
        return Dense(layer.weight * self.std, layer.bias + layer.weight @ self.mean)

    def change(self, update: Dense) -> Dense:
        """The first layer's update as the network of standardized inputs would have had it."""
        return Dense((update.weight - update.bias[:, None] * self.mean) / self.std, update.bias)


@dataclass(frozen=True)
class Chain:
    """An Objective: the distance between the gradient of the mean loss at `layers` and the target's direction.

    Geiping et al. 2020 (Inverting Gradients), section 3, for the cosine; Zhu et al. 2019 (DLG), equation 4, for the
    squared distance. Each record's gradient is clipped to the norm `clip` first, as DP-SGD does.
    """

    layers: tuple[Dense, ...]
    """Weights of the network, first layer first."""
    target: tuple[Direction, ...]
    """The direction to be explained, by layer."""
    clip: float = math.inf
    """Norm to which each record's gradient is clipped; infinite: not at all."""
    distance: Distance = "cosine"
    size: float = 1.0
    """Norm of the true gradient, which the squared distance needs."""
    loss: Loss = "cross-entropy"
    activation: Activation = "relu"
    standard: Standard | None = None
    """Standardization that is applied to inputs before `layers`, which are then those of standardized inputs."""
    sharpness: float = math.inf
    """Sharpness of the corner of ReLUs, see `curve`; infinite: as they are in the client's network."""
    class_weights: Tensor | None = None
    """Weight of each class in the loss, float32 (classes,); None: all weigh the same."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The misfit (restarts,) and its slopes with respect to inputs and labels; see Objective."""
        seen = self.passes(inputs, labels)
        hidden, slopes = seen.hidden, seen.slopes
        along = [t.of_inputs(h) for t, h in zip(self.target, hidden, strict=True)]
        grams = [h @ h.mT + 1 for h in hidden]
        pairs = [d @ d.mT for d in slopes]
        dot = torch.stack([(d * a).sum((1, 2)) for d, a in zip(slopes, along, strict=True)]).sum(0)
        square = torch.stack([(e * k).sum((1, 2)) for e, k in zip(pairs, grams, strict=True)]).sum(0)
        value, by_dot, by_square = slopes_of(self.distance, dot, square, self.size)
        # slopes are gathered divided by `by_dot`, which saves a pass over every tensor
        ratio = (2 * by_square / by_dot)[:, None, None]
        pulled = [a.baddbmm_(ratio * k, d) for a, k, d in zip(along, grams, slopes, strict=True)]
        direct = [
            t.of_outputs(d).baddbmm_(ratio * e, h)
            for t, d, e, h in zip(self.target, slopes, pairs, hidden, strict=True)
        ]
        by_inputs, by_labels = self.pull_back(seen, pulled, direct)
        return value, by_inputs * by_dot[:, None, None], by_labels * by_dot[:, None, None]

    def pull_back(self, seen: "Passes", pulled: list[Tensor], direct: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The slopes of a misfit with respect to inputs and labels, from those with respect to a pass over them.

        `pulled` are its slopes with respect to each layer's slopes D, (restarts, n, outputs), `direct` those with
        respect to its inputs H, (restarts, n, inputs), as if D did not depend on H.
        """
        layers, hidden, slopes, cut = self.layers, seen.hidden, seen.slopes, seen.cut
        n, last = hidden[0].shape[-2], len(layers) - 1
        if self.clip < math.inf:  # a longer gradient is scaled down more: a change along itself has no effect
            radial = torch.stack([(p * d).sum(-1, True) for p, d in zip(pulled, slopes, strict=True)]).sum(0)
            radial = radial * (cut < 1) * (n / self.clip) ** 2
            own_inputs = [h.square().sum(-1, True) + 1 for h in hidden]
            own_slopes = [d.square().sum(-1, True) for d in slopes]
            pulled = [p - radial * d * k for p, d, k in zip(pulled, slopes, own_inputs, strict=True)]
            direct = [g - radial * e * h for g, e, h in zip(direct, own_slopes, hidden, strict=True)]

        # backwards through the slopes' recursion, first layer to last, then through the network, last to first
        carried, bent = pulled[0], []
        for i in range(1, last + 1):
            back = bend(self.activation, hidden[i], seen.before[i - 1], self.sharpness)
            bent.append(None if back is None else carried * back * (slopes[i] @ layers[i].weight))
            carried = pulled[i] + (carried * seen.steep[i - 1]) @ self._columns[i].T
        carried = cut / n * carried
        if self.loss == "cross-entropy":
            along = (seen.answers * carried).sum(-1, keepdim=True)
            by_labels = -carried if self.class_weights is None else self.class_weights * (along - carried)
            carried = seen.weight * seen.answers * (carried - along)
        else:
            carried = 2 * carried / carried.shape[-1]
            by_labels = -carried
        for i in range(last, -1, -1):
            carried = (carried @ layers[i].weight).add_(direct[i])
            if i:
                own = bent[i - 1]
                carried.mul_(seen.steep[i - 1])
                carried = carried if own is None else carried.add_(own)
        return carried if self.standard is None else carried / self.standard.std, by_labels

    def passes(self, inputs: Tensor, labels: Tensor) -> "Passes":
        """The forward and backward pass over inputs (..., n, width) with labels (..., n, outputs)."""
        if self.standard is not None:
            inputs = (inputs - self.standard.mean) / self.standard.std
        n, hidden, before, steep = inputs.shape[-2], [inputs], [], []
        for layer, columns in zip(self.layers[:-1], self._columns[:-1], strict=True):
            units = torch.nn.functional.linear(hidden[-1], columns, layer.bias)
            value, slope = curve(self.activation, units, self.sharpness)
            before.append(units)
            hidden.append(value)
            steep.append(slope)
        answers = torch.nn.functional.linear(hidden[-1], self.layers[-1].weight, self.layers[-1].bias)
        weight: Tensor | float = 1.0
        if self.loss == "cross-entropy":
            answers = answers.softmax(-1)
            if self.class_weights is not None:
                labels = labels * self.class_weights
                weight = labels.sum(-1, keepdim=True)
            slopes = [(answers * weight - labels) / n]
        else:
            slopes = [2 * (answers - labels) / (n * answers.shape[-1])]
        for layer, slope in zip(self.layers[:0:-1], steep[::-1], strict=True):
            slopes.insert(0, (slopes[0] @ layer.weight) * slope)
        cut = torch.ones_like(answers[..., :1])
        if self.clip < math.inf:
            parts = [
                d.square().sum(-1, True) * (h.square().sum(-1, True) + 1) for d, h in zip(slopes, hidden, strict=True)
            ]
            cut = (self.clip / (n * torch.stack(parts).sum(0).sqrt().clamp_min(1e-12))).clamp_max(1)
            slopes = [d * cut for d in slopes]
        return Passes(hidden, before, steep, slopes, answers, cut, weight)

    @cached_property
    def _columns(self) -> list[Tensor]:
        return [by_columns(layer.weight) for layer in self.layers]

    def answers(self, inputs: Tensor) -> Tensor:
        """Softmax of the network's outputs (n, classes), or the outputs for squared error, at inputs (n, width)."""
        return self.passes(inputs, torch.zeros_like(inputs[:, :1])).answers

    def influence(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Squared norm of each record's gradient over that of their sum, (n,), for inputs (n, width)."""
        seen = self.passes(inputs, labels)
        pairs = torch.stack([(d @ d.mT) * (h @ h.mT + 1) for d, h in zip(seen.slopes, seen.hidden, strict=True)]).sum(0)
        own: Tensor = pairs.diagonal() / pairs.sum().clamp_min(1e-30)
        return own

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`, roughly."""
        network = sum(layer.weight.numel() for layer in self.layers)
        direction = sum(t.left.numel() + (0 if t.right is None else t.right.numel()) for t in self.target)
        widths = sum(sum(layer.weight.shape) for layer in self.layers)
        return 2.0 * records * (4 * network + 2 * direction + 3 * records * widths)

    def held(self, records: int) -> int:
        """Numbers that one call holds in memory per intermediate tensor and restart."""
        return records * max(records, *(max(layer.weight.shape) for layer in self.layers))


@dataclass(frozen=True)
class Passes:
    """Forward and backward pass of a chain, tensors (..., n, width of the layer) layer by layer."""

    hidden: list[Tensor]
    """Inputs of each linear layer."""
    before: list[Tensor]
    """Pre-activations of each hidden layer."""
    steep: list[Tensor]
    """Derivatives of each activation at its pre-activations."""
    slopes: list[Tensor]
    """Gradient of the mean loss at each layer's outputs, clipped record by record."""
    answers: Tensor
    """Softmax of the last layer's outputs, or the outputs themselves for squared error."""
    cut: Tensor
    """Factor by which each record's gradient was clipped, up to 1, (..., n, 1)."""
    weight: Tensor | float = 1.0
    """Weight of each record in the loss by its label, (..., n, 1); 1 where classes have none."""


def activation_of(model: object) -> Activation | None:
    """The activation of a network that is a chain of linear layers; None for any other."""
    if getattr(model, "bottleneck", 0):
        return None
    if isinstance(model, Logistic):
        return "relu"
    return getattr(model, "activation", "relu") if isinstance(model, Mlp) else None
