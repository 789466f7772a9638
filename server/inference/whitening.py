"""What an update says of a few people when the rest of its batch is noise of a known shape.

The update's gradient is the mean of its records' gradients. Those of others vary as the gradients of drawn records do;
in these directions little can be told, in all others much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedinv.attack import Sample
from fedinv.task.loss import loss

LEAST = 1e-6
"""Of the largest variance: what lies below is rounding."""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of covariance `spans`^T diag(variances) `spans` + white."""

    spans: Tensor
    """(r, numbers), orthonormal rows."""
    variances: Tensor
    """(r,)."""
    white: float

    @classmethod
    def of(cls, others: Tensor, rest: Tensor) -> Self:
        """Noise that varies as `others` (m, numbers) do, and else as white noise of the size that is left of `rest`."""
        apart = (others - others.mean(0)) / len(others) ** 0.5
        variances, turns = torch.linalg.eigh((apart @ apart.T).double())
        kept = variances > LEAST * variances[-1]
        variances = variances[kept].float()
        spans = (turns[:, kept].float().T @ apart) / variances.sqrt()[:, None]
        beyond = rest - (rest @ spans.T) @ spans
        white = float(beyond.square().mean()) + 1e-12 * float(rest.square().mean()) + 1e-30
        return cls(spans, variances, white)

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """(k,): left_i . covariance^-1 . right_i of rows (k, numbers)."""
        shrink = self.variances / (self.variances + self.white)
        inside = ((left @ self.spans.T) * (right @ self.spans.T) * shrink).sum(1)
        return ((left * right).sum(1) - inside) / self.white


def gradients(network: nn.Sequential, people: Sample) -> Tensor:
    """(k, numbers): each person's own gradient of the first layer: its record times its signal."""
    weights = {name: p.detach() for name, p in network.named_parameters()}
    fixed = {**weights, **dict(network.named_buffers())}
    names = _first(network)

    def off(at: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        return loss(functional_call(network, {**fixed, **at}, (record[None],)), label[None])

    each = vmap(grad(off), in_dims=(None, 0, 0))
    found = each({name: weights[name] for name in names}, people.records, people.labels)
    return torch.cat([found[name].flatten(1) for name in names], 1)


def seen_gradient(
    network: nn.Sequential, received: Mapping[str, Tensor], length: float | None, alike: Tensor
) -> Tensor:
    """(numbers,): the first layer's mean gradient that an update shows.

    `length` is the step length over all local steps; where it is not known, the gradient is taken as long as the mean
    of `alike` (m, numbers) is.
    """
    seen = -torch.cat([received[name].float().flatten() for name in _first(network)])
    return seen / length if length else seen * alike.mean(0).norm() / seen.norm().clamp_min(1e-30)


def _first(network: nn.Sequential) -> list[str]:
    """The first layer's parameters."""
    names = [name for name, _ in network.named_parameters()]
    return [name for name in names if name.rpartition(".")[0] == names[0].rpartition(".")[0]]
