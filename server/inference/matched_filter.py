"""Detects people's gradients in updates of known noise, over all parameters and several rounds.

No gradient is formed: a layer's is the outer product of slopes d and inputs [h, 1], so that products of two records'
gradients are (d . d') (h . h' + 1), and with a layer's update U they are d . (U [h, 1]).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedinv.attack import Sample
from fedinv.task.loss import loss
from fedinv.task.networks.perceptron import ACTIVATIONS


@dataclass(frozen=True)
class Gradients:
    """The gradients of n records at a chain of linear layers, as outer products, clipped record by record."""

    slopes: tuple[Tensor, ...]
    """Slopes at each layer's outputs, float32 (n, outputs)."""
    inputs: tuple[Tensor, ...]
    """Inputs of each layer, float32 (n, inputs)."""

    def products(self, others: "Gradients") -> Tensor:
        """Products of these gradients with m others, float64 (n, m)."""
        pairs = zip(self.slopes, self.inputs, others.slopes, others.inputs, strict=True)
        return torch.stack([(d @ e.T).double() * (h @ k.T + 1).double() for d, h, e, k in pairs]).sum(0)

    def along(self, update: Sequence[Tensor]) -> Tensor:
        """Products of these gradients with an update, weight and bias of each layer in turn, float64 (n,)."""
        layers = zip(self.slopes, self.inputs, update[::2], update[1::2], strict=True)
        return torch.stack([(d * (h @ w.T + b)).sum(1).double() for d, h, w, b in layers]).sum(0)

    def squares(self) -> Tensor:
        """Squared norm of each gradient, float64 (n,)."""
        pairs = zip(self.slopes, self.inputs, strict=True)
        return torch.stack([d.square().sum(1).double() * (h.square().sum(1) + 1).double() for d, h in pairs]).sum(0)


def is_chain(network: nn.Sequential) -> bool:
    """Whether a network is a chain of linear layers, whose gradients are outer products."""
    plain: tuple[type[nn.Module], ...] = (nn.Linear, *ACTIVATIONS.values())
    return all(isinstance(layer, plain) for layer in network)


def clipped_gradients(network: nn.Sequential, people: Sample, clip: float) -> Gradients:
    """Each person's gradient at a chain of linear layers, cut to the norm `clip`."""
    hidden, inputs, outputs = people.records, list[Tensor](), list[Tensor]()
    with torch.enable_grad():
        for layer in network:
            before, hidden = hidden, layer(hidden)
            if isinstance(layer, nn.Linear):
                inputs.append(before.detach())
                outputs.append(hidden)
        slopes = torch.autograd.grad(loss(hidden, people.labels, reduction="sum"), outputs)
    whole = Gradients(tuple(slopes), tuple(inputs))
    if math.isinf(clip):
        return whole
    cut = (clip / whole.squares().sqrt().clamp_min(1e-12)).clamp_max(1.0).float()[:, None]
    return Gradients(tuple(d * cut for d in slopes), whole.inputs)


@dataclass(frozen=True)
class Evidence:
    """What one update tells about each of n people: their gradient's fit to it, and what a member's fit would be."""

    fit: Tensor
    """Product of the person's gradient with what is unexplained, under the inverse covariance, float64 (n,)."""
    own: Tensor
    """Square of the person's gradient under the inverse covariance, float64 (n,): the expected fit of a member."""

    @property
    def ratio(self) -> Tensor:
        """Log likelihood ratio of the update with and without the person, float64 (n,)."""
        return self.fit - self.own / 2


def evidence(people: Gradients, others: Gradients, total: Sequence[Tensor], count: float, std: float) -> Evidence:
    """The evidence of an update that is a sum of about `count` people's gradients, `total`, and white noise of `std`.

    The rest of the sum counts as Gaussian, with the mean and the covariance of `others` (m of them): the matched filter
    under it, by the Woodbury identity on products of gradients.
    """
    among, across = others.products(others), people.products(others)
    mean, whole = among.mean(1), among.mean()
    rest = people.along(total) - count * across.mean(1)
    known = others.along(total) - count * mean
    # all that follows is of gradients less the others' mean
    apart = across - across.mean(1, keepdim=True) - mean + whole
    kernel = among - mean[:, None] - mean + whole
    rest, known = rest - known.mean(), known - known.mean()
    own = people.squares() - 2 * across.mean(1) + whole
    ridge = torch.eye(len(kernel), dtype=kernel.dtype) * (len(kernel) * std**2 / count)
    solved = torch.linalg.solve(kernel + ridge, torch.cat([known[:, None], apart.T], 1))
    return Evidence((rest - apart @ solved[:, 0]) / std**2, (own - (apart * solved[:, 1:].T).sum(1)) / std**2)
