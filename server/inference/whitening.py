"""Detects a few people's gradients in an update by treating the rest of its batch as noise of known covariance.

The update's gradient is the mean of its records' gradients. Those of other people vary as the gradients of drawn
records do: directions in which they vary much reveal little of a person, all others much.
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
"""Variances below this share of the largest are rounding errors and are dropped."""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of covariance `spans`^T diag(variances) `spans` + white."""

    spans: Tensor
    """Directions in which the noise varies, orthonormal rows (r, parameters)."""
    variances: Tensor
    """Variance along each direction, (r,)."""
    white: float
    """Variance of the white noise on each coordinate."""

    @classmethod
    def of(cls, others: Tensor, rest: Tensor) -> Self:
        """Noise with the covariance of `others` (m, parameters), plus white noise as large as the rest of `rest`.

        `rest` (parameters,) is what is to be explained; the white noise has the mean square of its part outside the
        others' span.
        """
        apart = (others - others.mean(0)) / len(others) ** 0.5
        variances, turns = torch.linalg.eigh((apart @ apart.T).double())
        kept = variances > LEAST * variances[-1]
        variances = variances[kept].float()
        spans = (turns[:, kept].float().T @ apart) / variances.sqrt()[:, None]
        beyond = rest - (rest @ spans.T) @ spans
        white = float(beyond.square().mean()) + 1e-12 * float(rest.square().mean()) + 1e-30
        return cls(spans, variances, white)

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """The products left_i . covariance^-1 . right_i of rows (k, parameters), (k,)."""
        shrink = self.variances / (self.variances + self.white)
        inside = ((left @ self.spans.T) * (right @ self.spans.T) * shrink).sum(1)
        return ((left * right).sum(1) - inside) / self.white


def gradients(network: nn.Sequential, people: Sample) -> Tensor:
    """Each person's gradient of the first layer's parameters, float32 (k, parameters)."""
    weights = {name: p.detach() for name, p in network.named_parameters()}
    fixed = {**weights, **dict(network.named_buffers())}
    names = _first(network)

    def off(at: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        return loss(functional_call(network, {**fixed, **at}, (record[None],)), label[None])

    each = vmap(grad(off), in_dims=(None, 0, 0))
    found = each({name: weights[name] for name in names}, people.records, people.labels)
    return torch.cat([found[name].flatten(1) for name in names], 1)


def seen_gradient(
    network: nn.Sequential, received: Mapping[str, Tensor], length: float | None, similar: Tensor
) -> Tensor:
    """The first layer's mean gradient that an update implies, float32 (parameters,).

    `length` is the step length over all local steps; where it is not known, the gradient gets the norm of the mean of
    `similar` (m, parameters).
    """
    seen = -torch.cat([received[name].float().flatten() for name in _first(network)])
    return seen / length if length else seen * similar.mean(0).norm() / seen.norm().clamp_min(1e-30)


def _first(network: nn.Sequential) -> list[str]:
    """Names of the first layer's parameters."""
    names = [name for name, _ in network.named_parameters()]
    return [name for name in names if name.rpartition(".")[0] == names[0].rpartition(".")[0]]
