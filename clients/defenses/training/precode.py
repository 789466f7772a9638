"""Passes the last layer's inputs through a random draw.

Scheliga, Maeder, Seeland 2022 (PRECODE: a generic model extension to prevent deep gradient leakage), section 3.
"""

from typing import Literal

import numpy as np
from pydantic import Field
from torch import nn

from fedinv.defense import Defense
from fedinv.federation.streams import torch_stream
from fedinv.task.networks.bottleneck import WIDTH, Bottleneck


class Precode(Defense):
    """The shared model has a variational bottleneck, whose values every local step draws at random.

    Claims no differential privacy: heuristic. Costs the bytes and the time of two more layers: about 3 * width * width
    of the last hidden layer.
    """

    kind: Literal["precode"] = "precode"
    never_neutral = "a network with a bottleneck is another network than one without"
    no_own_gradients = "its draws are part of the network, and its divergence is a mean over the batch"
    width: int = Field(default=WIDTH, gt=0)
    """Width of the bottleneck: numbers that are drawn for each record."""

    def wrap_network(self, network: nn.Sequential, rng: np.random.Generator) -> nn.Sequential:
        """Make the network's bottleneck draw from this client's own random stream."""
        for layer in network.modules():
            if isinstance(layer, Bottleneck):
                layer.generator = torch_stream(rng)
        return network
