"""The parts of received weights that detectors look at, and what a client's own records do in them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedinv.detector import Look, Weights
from fedinv.task.loss import loss

MOST = 512
"""Records of a client that are looked at, at most, so that vetting costs less than training."""
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose gradients are looked at record by record."""


Seen = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]
"""Function that is called with a module, what it was given and what it returned."""


@dataclass(frozen=True)
class Matrix:
    """A layer's weights as a matrix."""

    name: str
    """Name of the layer's weights among the parameters."""
    rows: Tensor
    """Weights of each unit, or of each channel's filter, float (units, inputs)."""
    bias: Tensor | None
    """Bias of each unit, float (units,); None for a layer without."""


@dataclass(frozen=True)
class Firing:
    """How many of a client's records a layer's units fire on."""

    name: str
    """Name of the layer's weights among the parameters."""
    counts: Tensor
    """Records that each unit is above zero for, int64 (units,); of a channel, at any place."""
    records: int
    """Number of the records."""


def matrices(weights: Weights) -> list[Matrix]:
    """The layers' weights, from the inputs on: tensors of two dimensions or more, flattened from the second on."""
    found = []
    for name, tensor in weights.items():
        if tensor.ndim > 1:
            found.append(Matrix(name, tensor.flatten(1), weights.get(_bias(name, list(weights)))))
    return [one if one.bias is None or len(one.bias) == len(one.rows) else replace(one, bias=None) for one in found]


def _bias(name: str, names: list[str]) -> str:
    """The name of a layer's bias: the next one where names are positions, as of an app on NumPyClient."""
    if name.endswith("weight"):
        return name.removesuffix("weight") + "bias"
    return names[min(names.index(name) + 1, len(names) - 1)]


def firing(received: Weights, look: Look) -> list[Firing]:
    """The firing of each layer that is followed by a ReLU; empty without records or a network."""
    if look.network is None or look.inputs is None or not len(look.inputs):
        return []
    network = look.network
    names = {module: name for name, module in network.named_modules()}
    found: list[Firing] = []
    last: list[str] = []

    def seen(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(module, LAYERS):
            last[:] = [f"{names[module]}.weight"]
        elif last:
            fired = (given[0] > 0).flatten(2).any(2) if given[0].ndim > 2 else given[0] > 0
            found.append(Firing(last[0], fired.sum(0), len(fired)))

    with torch.no_grad():
        _outputs(network, received, look.inputs[:MOST], (*LAYERS, nn.ReLU), seen)
    return found


def record_gradients(received: Weights, look: Look) -> list[Tensor]:
    """Norm of each record's own gradient in each layer, weights and bias together, float64 (records,) a layer.

    Batch normalization is taken in its evaluation mode, as records have no gradient of their own in the other. Empty
    without records, labels or a network.
    """
    if look.network is None or look.inputs is None or look.labels is None or not len(look.inputs):
        return []
    network = look.network
    kept: list[tuple[nn.Module, Tensor, Tensor]] = []

    def seen(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        kept.append((module, given[0].detach(), out))

    weights = {
        name: tensor.detach().clone().requires_grad_(tensor.is_floating_point()) for name, tensor in received.items()
    }
    outputs = _outputs(network, weights, look.inputs[:MOST], LAYERS, seen)
    total = loss(outputs, look.labels[:MOST], "sum")
    signals = torch.autograd.grad(total, [out for _, _, out in kept], allow_unused=True)
    return [
        _norms(module, given, signal)
        for (module, given, _), signal in zip(kept, signals, strict=True)
        if signal is not None
    ]


def _norms(module: nn.Module, given: Tensor, signal: Tensor) -> Tensor:
    given, signal = given.double(), signal.double()
    if isinstance(module, nn.Linear) and given.ndim == 2:
        linear: Tensor = (given.square().sum(1) + 1).sqrt() * signal.norm(dim=1)
        return linear
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        patches = nn.functional.unfold(given, module.kernel_size, module.dilation, _padding(module), module.stride)
        weight = (signal.flatten(2) @ patches.transpose(1, 2)).flatten(1)
        return (weight.square().sum(1) + signal.flatten(2).sum(2).square().sum(1)).sqrt()
    # an upper bound, as places of one record add up
    flat = signal.flatten(1)
    bound: Tensor = flat.norm(dim=1) * given.flatten(1).norm(dim=1)
    return bound


def _padding(module: nn.Conv2d) -> tuple[int, int]:
    padding = module.padding
    return (0, 0) if isinstance(padding, str) else (int(padding[0]), int(padding[1]))


def _outputs(
    network: nn.Module, weights: Weights, inputs: Tensor, kinds: tuple[type[nn.Module], ...], seen: Seen
) -> Tensor:
    """The network's outputs for the inputs at these weights, in evaluation mode; `seen` is called at these modules.

    The network is left as it was: a copy would cost more than the outputs.
    """
    training = [module for module in network.modules() if module.training]
    handles = [module.register_forward_hook(seen) for module in network.modules() if isinstance(module, kinds)]
    try:
        network.eval()
        outputs: Tensor = torch.func.functional_call(network, dict(weights), (inputs,))
        return outputs
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
