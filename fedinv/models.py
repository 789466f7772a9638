"""The networks that a federation trains, built from their declaration alone."""

import copy
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class Mlp(BaseModel):
    """A multilayer perceptron: linear layers with ReLU between them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(512, 512), min_length=1)

    def layers(self, inputs: int, outputs: int) -> list[nn.Module]:
        """The network's layers in order."""
        widths = [inputs, *self.hidden]
        hidden: list[nn.Module] = []
        for before, after in pairwise(widths):
            hidden += [nn.Linear(before, after), nn.ReLU()]
        return [*hidden, nn.Linear(widths[-1], outputs)]


class Logistic(BaseModel):
    """Logistic regression: one linear layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["logistic"] = "logistic"

    def layers(self, inputs: int, outputs: int) -> list[nn.Module]:
        """The network's layers in order."""
        return [nn.Linear(inputs, outputs)]


Model = Annotated[Mlp | Logistic, Field(discriminator="kind")]


def build(model: Mlp | Logistic, inputs: int, outputs: int, seed: int) -> nn.Sequential:
    """Build a network (n, inputs) -> logits (n, outputs) with fresh weights.

    They depend on the seed alone, and the global generator stays untouched.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*model.layers(inputs, outputs))


def load(model: Mlp | Logistic, inputs: int, outputs: int, weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Build a network around these weights by parameter name; it takes their memory over.

    Raises RuntimeError for weights of other names or shapes.
    """
    network = copy.deepcopy(_without_weights(model, inputs, outputs))
    network.load_state_dict(dict(weights), assign=True)
    return network.requires_grad_(True)


@lru_cache(maxsize=8)
def _without_weights(model: Mlp | Logistic, inputs: int, outputs: int) -> nn.Sequential:
    with torch.device("meta"):
        return nn.Sequential(*model.layers(inputs, outputs))
