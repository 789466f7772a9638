"""How far what a record feeds into each layer lies from the row space of the layer's update, 0 after a step with it.

One step changes a linear layer by a sum of outer products of output slopes and inputs, so that the inputs of all
records of the batch lie in the row space of the change, as long as there are fewer of them than outputs. A convolution
is a linear layer on patches.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedinv.errors import RequestError
from fedinv.task.foreign.layers import BatchNorm
from fedinv.task.foreign.update import LayerUpdate, matrix_of

ROUNDED = 1e-7
"""Share of an input's length below which its distance from a row space is float32's rounding."""
AT_ONCE = 32
"""Records that go through the network at once: a convolution's patches are many times larger than its image."""
SHARE = 0.5
"""Layers whose row space has at least this share of the directions a record of the best layer's are looked at: with
fewer, a record's inputs stand out less from those of others than by chance."""


@dataclass(frozen=True)
class RowSpace:
    """The directions of a layer's inputs along which its update lies."""

    name: str
    """Name of the layer."""
    basis: Tensor
    """Orthonormal directions, float64 (rank, inputs), with the bias as one more input where it was on the wire."""
    biased: bool
    """Whether the bias's update is the last input."""
    places: int
    """Inputs that one record feeds into the layer: 1 for a linear layer, pixels for a convolution."""

    @property
    def capacity(self) -> float:
        """Directions for each of a record's inputs: as many records as can be in it exactly."""
        return len(self.basis) / self.places


def row_spaces(network: nn.Module, measured: Sequence[LayerUpdate], update: Mapping[str, Tensor]) -> list[RowSpace]:
    """Row spaces of the linear layers and convolutions that do not fill all directions of their inputs.

    A layer in which nothing moved, or whose row space is everything, distinguishes no record and is left out.
    """
    owners, found = dict(network.named_modules()), list[RowSpace]()
    for one in measured:
        weight, bias = one.layer.weight, one.layer.bias
        if not one.moved or weight is None or not _linear(owners[one.layer.name]):
            continue
        matrix = matrix_of(update, weight, bias if one.biased else None)
        if one.rank < matrix.shape[1]:
            basis = torch.linalg.svd(matrix, full_matrices=False)[2][: one.rank]
            found.append(RowSpace(one.layer.name, basis, one.biased, one.layer.places))
    return found


def chosen(spaces: Sequence[RowSpace]) -> list[RowSpace]:
    """The row spaces with most directions a record, by SHARE: chosen by the update alone, never by the records."""
    most = max((one.capacity for one in spaces), default=0.0)
    return [one for one in spaces if one.capacity >= SHARE * most]


def distances(
    network: nn.Module, sent: Mapping[str, Tensor], spaces: Sequence[RowSpace], records: Tensor
) -> dict[str, Tensor]:
    """Logarithm of each record's distance from each row space, in shares of its inputs' length, float64 (n,), by layer.

    The network computes what `records` (n, ...) feed into the layers at the weights that were sent, in evaluation mode;
    it is left as it was. Raises RequestError where it does not accept the records.
    """
    found: dict[str, list[Tensor]] = {one.name: [] for one in spaces}
    with _at(network, sent):
        for batch in torch.split(records, AT_ONCE):
            inputs = layer_inputs(network, batch, [one.name for one in spaces])
            for one in spaces:
                if one.name in inputs:
                    found[one.name].append(_distance(inputs[one.name], one))
    return {name: torch.cat(parts) for name, parts in found.items() if parts}


def inputs_of(
    network: nn.Module, sent: Mapping[str, Tensor], name: str, records: Tensor, together: bool = False
) -> Tensor:
    """What records (n, ...) feed into one linear layer at the weights that were sent, float32 (n, inputs).

    `together` they are one batch, which batch normalizations mix as in training.
    """
    with _at(network, sent):
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.train(together and len(records) > 1)
        parts = torch.split(records, len(records) if together else AT_ONCE)
        return torch.cat([layer_inputs(network, one, [name])[name][:, 0] for one in parts]).float()


def layer_inputs(network: nn.Module, records: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """What records (n, ...) feed into layers, by name, float64 (n, places, inputs): of convolutions patches.

    Layers that do not run are left out. Raises RequestError where the network does not accept the records.
    """
    owners, seen = dict(network.named_modules()), dict[str, list[Tensor]]()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and len(inputs[0]) == len(records):
                seen.setdefault(name, []).append(_places(module, inputs[0].detach()))

        return hook

    handles = [owners[name].register_forward_hook(keep(name)) for name in names]
    try:
        with torch.no_grad():
            network(records)
    except Exception as error:
        raise RequestError(
            f"the network does not accept records of the shape {tuple(records.shape[1:])}: {type(error).__name__}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts, 1).double() for name, parts in seen.items()}


def _linear(module: nn.Module) -> bool:
    """Whether a module is a linear map of its inputs, or of patches of them that can be taken out."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        filled = module.padding_mode in ("reflect", "replicate", "circular")
        return module.groups == 1 and not filled and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def _places(module: nn.Module, inputs: Tensor) -> Tensor:
    """A layer's inputs (n, ...) as (n, places, inputs)."""
    if isinstance(module, nn.Conv2d):
        patches = functional.unfold(inputs, module.kernel_size, module.dilation, _pair(module.padding), module.stride)
        return patches.transpose(1, 2)
    if isinstance(module, nn.Conv1d):
        kernel, dilation, padding, stride = (
            (1, module.kernel_size[0]),
            (1, module.dilation[0]),
            (0, _pair(module.padding)[0]),
            (1, module.stride[0]),
        )
        return functional.unfold(inputs[:, :, None], kernel, dilation, padding, stride).transpose(1, 2)
    return inputs.reshape(len(inputs), -1, inputs.shape[-1])


def _pair(padding: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in padding)


def _distance(inputs: Tensor, space: RowSpace) -> Tensor:
    if space.biased:
        inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], -1)
    outside = inputs - (inputs @ space.basis.T) @ space.basis
    length = inputs.square().sum((1, 2)).sqrt().clamp_min(math.ulp(1.0))
    return (outside.square().sum((1, 2)).sqrt() / length).clamp_min(ROUNDED).log()


@contextmanager
def _at(network: nn.Module, sent: Mapping[str, Tensor]) -> Iterator[None]:
    """The network at these weights in evaluation mode, within a block; as it was afterwards."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = {name: module.training for name, module in network.named_modules()}
    network.load_state_dict({**before, **sent})
    network.eval()
    try:
        yield
    finally:
        network.load_state_dict(before)
        for name, module in network.named_modules():
            module.training = modes[name]
