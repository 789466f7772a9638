"""The networks that a federation trains, built from their declaration alone."""

import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from fedinv.task.networks.architecture import Shape
from fedinv.task.networks.convolutional import Convnet, Lenet
from fedinv.task.networks.ft_transformer import FtTransformer
from fedinv.task.networks.module import Module
from fedinv.task.networks.perceptron import Logistic, Mlp
from fedinv.task.networks.signals import SignalConvnet
from fedinv.task.networks.tabular import OneLogit, Tabular
from fedinv.task.networks.transformer import Decoder, Encoder
from fedinv.task.seeding import seeded

AnyModel = Mlp | Logistic | Tabular | FtTransformer | Lenet | Convnet | SignalConvnet | Decoder | Encoder | Module
Model = Annotated[AnyModel, Field(discriminator="kind")]
DEFAULT: AnyModel = Mlp()
"""The model of a scenario that declares none."""
TABULAR = tuple(
    model.model_fields["kind"].default for model in get_args(AnyModel) if not model.images and not model.texts
)
"""Kinds of the models that read rows of a table."""
TEXTUAL = tuple(model.model_fields["kind"].default for model in get_args(AnyModel) if model.texts)
"""Kinds of the models that read texts."""


def build(model: AnyModel, shape: Shape, outputs: int, seed: int) -> nn.Sequential:
    """Build a network from flat inputs (n, width) to logits (n, outputs), its weights drawn from the seed.

    The weights depend on the seed alone; torch's global generator is not advanced. Raises ValueError where the model
    cannot read records of this shape.
    """
    with seeded(seed):
        return nn.Sequential(*model.layers(shape, outputs))


def load(model: AnyModel, shape: Shape, outputs: int, weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Build a network that uses these weights and buffers, by name as in `state`, without copying them.

    Training it changes the tensors given. It is in training mode. Raises RuntimeError for weights of other names or
    shapes, ValueError where the model cannot read records of this shape.
    """
    bare = _without_weights(model, shape, outputs)
    # tensors without numbers are replaced below, and so need no copy
    empty = {id(tensor): tensor for tensor in (*bare.parameters(), *bare.buffers()) if tensor.is_meta}
    network = copy.deepcopy(bare, empty)
    counts = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor
        for name, tensor in network.state_dict().items()
        if not tensor.is_floating_point()
    }
    network.load_state_dict({**counts, **weights}, assign=True)
    return network.requires_grad_(True)


def perceptron(model: AnyModel) -> AnyModel:
    """The same network as a perceptron that is built here, where it is one; the model itself where it is none."""
    found = model.as_perceptron
    return found if isinstance(found, AnyModel) else model


def unsuited(kind: str, model: AnyModel) -> str:
    """Why an attack of this kind, which does not suit the model, is not run: the words of a note."""
    if model.texts:
        return f"{kind} searches or solves for numbers, and the records are texts, whose tokens are none"
    return f"{kind} needs a perceptron, and the network is none: {model.no_perceptron}"


def state(network: nn.Module) -> dict[str, Tensor]:
    """A network's parameters and float buffers by name, not copied: what is sent between server and clients.

    A batch normalization's running_mean and running_var are among them, its count of batches is not.
    """
    return {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


def outputs_of(network: nn.Module) -> int:
    """Number of a network's outputs: a single logit of two classes gives two."""
    last = list(network.children())[-1]
    return 2 if isinstance(last, OneLogit) else len(list(network.parameters())[-1])


def shapes(model: AnyModel, shape: Shape, outputs: int) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of `state`, by name, for records of this shape.

    Nothing of the network's size is made, unless a factory of the user's own makes it.
    """
    return {name: tuple(tensor.shape) for name, tensor in state(_without_weights(model, shape, outputs)).items()}


@lru_cache(maxsize=8)
def _without_weights(model: AnyModel, shape: Shape, outputs: int) -> nn.Sequential:
    with seeded(0), torch.device("meta"):
        return nn.Sequential(*model.layers(shape, outputs))
