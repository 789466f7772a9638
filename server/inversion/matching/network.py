"""The gradient-matching objective of any network, differentiated twice automatically."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vmap
from torch.nn.functional import log_softmax
from torch.utils.flop_counter import FlopCounterMode

from fedinv.task.models import AnyModel
from fedinv.task.networks.ft_transformer import FtTransformer
from fedinv.task.networks.tabular import Columns, OneLogit, Residual, Tabular

from .objective import Distance, Loss, slopes_of

SMALL = 50_000
"""Number of parameters up to which restarts are faster together than one by one on a CPU."""
KNOWN = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._MaxPoolNd,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.SiLU,
    nn.ELU,
    nn.Softplus,
    Columns,
    OneLogit,
)
"""Types of layers that can be differentiated twice and are not random; others are refused."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of a batch normalization's inputs over the client's batch, or over all data so far."""

    mean: Tensor
    """Mean of each channel, float32 (channels,)."""
    variance: Tensor
    """Unbiased variance of each channel, float32 (channels,)."""


@dataclass(frozen=True)
class Network:
    """An Objective: the distance between the gradient of the mean loss at a network and the target's direction.

    Zhu et al. 2019 (DLG), equation 4; Geiping et al. 2020, equation 4. Batch normalization uses the batch's own
    statistics, as in training; their distance from known ones is added with the weight `normal` (Yin et al. 2021,
    equation 9). Each record's gradient is clipped to the norm `clip` first, as DP-SGD does.
    """

    network: nn.Sequential
    """The network, as `differentiable` returns it."""
    width: int
    """Number of flat inputs of the network."""
    target: Mapping[str, Tensor]
    """The direction to be explained by parameter name, of norm 1 over all."""
    clip: float = math.inf
    """Norm to which each record's gradient is clipped; infinite: not at all."""
    distance: Distance = "cosine"
    size: float = 1.0
    """Norm of the true gradient, which the squared distance needs."""
    loss: Loss = "cross-entropy"
    scales: Mapping[str, float] = field(default_factory=dict)
    """Factor of each parameter's gradient before the comparison, 1 where not named; `target` and `size` are those of
    the products."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """Coordinates that depend on the gradient, bool by parameter; all of a parameter that is not named."""
    normal: float = 0.0
    """Weight of the distance to the known statistics; 0: none is computed."""
    statistics: tuple[Statistics, ...] = ()
    """Known statistics of each batch normalization, in the network's order."""
    class_weights: Tensor | None = None
    """Weight of each class in the loss, float32 (classes,); None: all weigh the same."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The misfit (restarts,) and its slopes with respect to inputs and labels; see Objective."""
        together = inputs.is_cuda or (len(inputs) > 1 and self.parameters <= SMALL)
        if together or self.clip < math.inf:
            slope_and_value = grad_and_value(self._misfit, argnums=(0, 1))
            (by_inputs, by_labels), value = vmap(slope_and_value)(inputs, labels)
            return value, by_inputs, by_labels
        parts = [self._one(x, y) for x, y in zip(inputs, labels, strict=True)]
        value, by_inputs, by_labels = (torch.stack(p) for p in zip(*parts, strict=True))
        return value, by_inputs, by_labels

    def answers(self, inputs: Tensor) -> Tensor:
        """Softmax of the network's outputs (n, classes), or the outputs for squared error, at inputs (n, width)."""
        with torch.no_grad():
            outputs, _ = self._forward(self._own, inputs)
        return outputs.softmax(-1) if self.loss == "cross-entropy" else outputs

    def influence(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Squared norm of each record's gradient over that of their sum, (n,), for inputs (n, width)."""
        outputs, _ = self._forward(self._own, inputs)
        rows = []
        for each in self._losses(outputs, labels) / len(inputs):
            gradient = torch.autograd.grad(each, list(self._own.values()), retain_graph=True)
            flat = torch.cat([g.flatten() for g in gradient])
            rows.append(flat * (self.clip / (len(inputs) * flat.norm()).clamp_min(1e-12)).clamp_max(1))
        stacked = torch.stack(rows)
        return stacked.square().sum(1) / stacked.sum(0).square().sum().clamp_min(1e-30)

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`: seven times those of a forward pass."""
        inputs = self._example(records)
        with FlopCounterMode(display=False) as counter:
            self.answers(inputs)
        return 7.0 * float(counter.get_total_flops())

    def held(self, records: int) -> int:
        """Numbers that one call holds in memory per restart, roughly: the activations and the gradient."""
        inputs, total = self._example(records), 0
        with torch.no_grad():
            for _, layer in _leaves(self.network):
                inputs = layer(inputs)
                total += inputs.numel()
        return total + self.parameters

    @cached_property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self._own.values())

    @cached_property
    def _own(self) -> dict[str, Tensor]:
        return dict(self.network.named_parameters())

    def _example(self, records: int) -> Tensor:
        return torch.zeros(records, self.width, device=next(iter(self._own.values())).device)

    def _one(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            x, y = inputs.detach().requires_grad_(), labels.detach().requires_grad_()
            outputs, seen = self._forward(self._own, x)
            names = list(self._own)
            gradient = torch.autograd.grad(
                self._losses(outputs, y).mean(), [self._own[n] for n in names], create_graph=True
            )
            value = self._distance(dict(zip(names, gradient, strict=True))) + self._normality(seen)
            by_inputs, by_labels = torch.autograd.grad(value, (x, y))
        return value.detach(), by_inputs, by_labels

    def _misfit(self, inputs: Tensor, labels: Tensor) -> Tensor:
        weights = {name: p.detach() for name, p in self._own.items()}
        if self.clip == math.inf:
            gradient, seen = grad(self._mean_loss, has_aux=True)(weights, inputs, labels)
            return self._distance(gradient) + self._normality(seen)
        each, _ = vmap(grad(self._mean_loss, has_aux=True), (None, 0, 0))(weights, inputs[:, None], labels[:, None])
        squares = torch.stack([g.flatten(1).square().sum(1) for g in each.values()]).sum(0)
        cut = (self.clip / squares.clamp_min(1e-24).sqrt()).clamp_max(1)
        return self._distance({name: torch.tensordot(cut, g, 1) / len(inputs) for name, g in each.items()})

    def _mean_loss(self, weights: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        outputs, seen = self._forward(weights, inputs)
        return self._losses(outputs, labels).mean(), seen

    def _forward(self, weights: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The outputs, and where statistics are compared the inputs of each batch normalization."""
        seen = []
        for stem, layer in _leaves(self.network):
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                seen.append(inputs)
            own = {name: weights[f"{stem}.{name}"] for name, _ in layer.named_parameters()}
            inputs = functional_call(layer, own, (inputs,)) if own else layer(inputs)
        return inputs, seen if self.normal else []

    def _losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        if self.loss == "cross-entropy":
            weighted = labels if self.class_weights is None else labels * self.class_weights
            return -(weighted * log_softmax(outputs, -1)).sum(-1)
        return (outputs - labels).square().mean(-1)

    def _distance(self, gradient: Mapping[str, Tensor]) -> Tensor:
        scaled = {name: gradient[name] * self.scales.get(name, 1.0) for name in self.target}
        scaled |= {name: scaled[name] * mask for name, mask in self.masks.items()}
        dot = torch.stack([(scaled[name] * t).sum() for name, t in self.target.items()]).sum()
        square = torch.stack([g.square().sum() for g in scaled.values()]).sum()
        return slopes_of(self.distance, dot, square, self.size)[0]

    def _normality(self, seen: list[Tensor]) -> Tensor | float:
        apart: Tensor | float = 0.0
        for inputs, known in zip(seen, self.statistics, strict=False):
            places = [i for i in range(inputs.ndim) if i != 1]
            apart = apart + (inputs.mean(places) - known.mean).norm()
            apart = apart + (inputs.var(places, unbiased=True) - known.variance).norm()
        return self.normal * apart


def matchable(model: AnyModel) -> bool:
    """Whether a model's layers are all of the types that are known, as far as it is built here."""
    random = isinstance(model, Tabular) and model.dropout > 0
    return not model.texts and not isinstance(model, FtTransformer) and not random


def differentiable(network: nn.Sequential) -> nn.Sequential:
    """Prepare a network for `Network`, in place: training mode, batch normalization by the batch's statistics only.

    Raises ValueError naming a layer whose gradient cannot be matched.
    """
    for _, layer in _leaves(network.train()):
        for one in layer if isinstance(layer, Residual) else [layer]:
            if not isinstance(one, KNOWN):
                raise ValueError(f"a layer of type {type(one).__name__} is not known to gradient matching")
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return network


def normalizations(network: nn.Sequential) -> tuple[tuple[str, float], ...]:
    """Name and momentum of each batch normalization, in the network's order."""
    return tuple(
        (stem, 0.1 if layer.momentum is None else layer.momentum)
        for stem, layer in _leaves(network)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    )


def saturates(network: nn.Sequential) -> bool:
    """Whether the network has sigmoid or tanh units, whose gradients vanish towards the first layers."""
    units = [layer for _, layer in _leaves(network) if not list(layer.parameters())]
    return any(isinstance(layer, nn.Sigmoid | nn.Tanh) for layer in units)


def _leaves(network: nn.Sequential, stem: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_children():
        if isinstance(layer, nn.Sequential) and not isinstance(layer, Residual):
            yield from _leaves(layer, f"{stem}{name}.")
        else:
            yield f"{stem}{name}", layer
