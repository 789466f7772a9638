"""A network from one of its layers on, so that claims of what feeds that layer can be trained on like records."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedinv.task.foreign.layers import BatchNorm


class FromLayer(nn.Module):
    """A network that is given a layer's inputs (n, d): what lies before the layer runs on made-up records for nothing.

    A shape of the layer's own inputs beyond (n, d) is restored.
    """

    def __init__(self, network: nn.Module, layer: str, example: Tensor) -> None:
        super().__init__()
        self.network = network
        self.layer = layer
        self.example = example[:1]

    def train(self, mode: bool = True) -> "FromLayer":
        """Set the mode, but of batch normalizations, which lie before the layer: a made-up record has no statistics."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, BatchNorm):
                module.eval()
        return self

    def forward(self, inputs: Tensor) -> Any:
        """The network's outputs on records whose layer has these inputs."""

        def put(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs.reshape(len(inputs), *given[0].shape[1:]), *given[1:])

        handle = self.network.get_submodule(self.layer).register_forward_pre_hook(put)
        try:
            example = self.example.to(inputs.dtype) if self.example.is_floating_point() else self.example
            return self.network(example.expand(len(inputs), *example.shape[1:]))
        finally:
            handle.remove()


@dataclass(frozen=True)
class Entry:
    """A network that takes what is claimed."""

    module: nn.Module
    """The network itself where records are claimed, else the network from a layer on."""
    shape: tuple[int, ...]
    """Shape of one of its inputs."""
    names: Mapping[str, str]
    """Name in `module` of each parameter that claims are held against, by the network's own name."""

    @property
    def whole(self) -> bool:
        """Whether the module is the whole network, so that all of it can be trained again."""
        return not isinstance(self.module, FromLayer)

    def inputs(self, claimed: Tensor) -> Tensor:
        """Claims (n, d) as inputs of the module."""
        return claimed.reshape(len(claimed), *self.shape)

    def at(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A copy of the module with weights and buffers by the network's own names, those of others as they are."""
        made = copy.deepcopy(self.module)
        inner = made.network if isinstance(made, FromLayer) else made
        assert isinstance(inner, nn.Module)
        inner.load_state_dict({**inner.state_dict(), **weights})
        return made.requires_grad_(True)


def entry(network: nn.Module, example: Tensor, layer: str | None, names: Sequence[str]) -> Entry:
    """The entry of claims: the network itself for records, where `layer` is None, else the network from `layer` on.

    `names` are the parameters of the network that claims are held against.
    """
    if layer is None:
        return Entry(network, tuple(example.shape[1:]), {name: name for name in names})
    width = network.get_submodule(layer).in_features
    assert isinstance(width, int)  # of a linear layer
    made = FromLayer(copy.deepcopy(network), layer, example.detach())
    return Entry(made, (width,), {name: f"network.{name}" for name in names})


def change(entry: Entry, before: Mapping[str, Tensor], after: nn.Module) -> Tensor:
    """What training changed of the parameters that claims are held against, float64 (D,), in their order."""
    now = dict(after.named_parameters())
    return torch.cat([(now[inner].detach() - before[own]).double().flatten() for own, inner in entry.names.items()])
