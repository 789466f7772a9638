"""Sorts records into bins along one direction of the first layer."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Claim, Knowledge, Observation, Progress, nothing
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.models import AnyModel
from fedinv.task.networks.perceptron import Mlp

from ...crafting import first_layer
from ...crafting.cells import OUTSIDE
from ...crafting.first_layer import Sums
from ...crafting.quantiles import direction, quantiles, samples

MOVED = 2e-2
"""Size of a sparse bin's error, in sizes of its row: with less, float32 loses digits of what local steps change; with
more, they move the bin."""
SMALL = 5e-3
"""Size of a sparse bin's row: local steps connect each bin with all units that fire, by as much as these give."""


class Imprint(Deviation):
    """All units of the first layer look along one direction, each from a higher quantile on: a bin a unit.

    Threat model: a malicious server that sends all clients the same weights, of the agreed architecture. It needs the
    schema for the quantiles, with images too; auxiliary records make the bins more even. Of n records in K bins,
    n (1 - 1/K)^(n - 1) are alone where bins are even.

    Claims: the record of each bin, where the public dictionary or its coefficient shows that it is one.

    Paper: Fowl, Geiping, Czaja, Goldblum and Goldstein (2022), Robbing the Fed: Directly obtaining private data in
    federated learning with modified models, dense and sparse variants. Their module in front of the
    network is the first layer here, whose direction is random, as means of one-hot records tie.
    """

    kind: Literal["imprint"] = "imprint"
    """Selects this deviation: bins along one direction of the first layer."""
    sparse: bool = False
    """True: a unit changes by the records of its own bin alone, so that several local steps (fedavg) leave bins apart.
    Needs two hidden layers; the second ends each bin. False: the records above a bin's lower end change its unit."""
    alike: ClassVar[bool] = True
    over_steps: ClassVar[Mapping[str, Any]] = {"sparse": True}

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network does not begin with a linear layer and ReLU, or has no second one for sparse bins."""
        wrong = first_layer.no_relu(model)
        if wrong is None and self.sparse and isinstance(model, Mlp) and len(model.hidden) != 2:
            wrong = f"sparse bins need two hidden layers, and the network has {len(model.hidden)}"
        return wrong

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The bins. Raises ValueError where the schema is withheld or the network is none that it can be made in."""
        stack = first_layer.layers(sent)
        schema = knows.schema
        if schema is None or schema.width != stack[0][0].shape[1]:
            raise ValueError("the schema is withheld, or not that of the network's inputs, and bins need its quantiles")
        along, count = direction(schema, rng), len(stack[0][1])
        if self.sparse:
            if len(stack) != 3:
                raise ValueError(f"sparse bins need two hidden layers, and the network has {len(stack) - 1}")
            count = min(count, len(stack[1][1]))
        if count < 2:
            raise ValueError("the first layer has one unit, and two bins need two")
        drawn = samples(schema, knows, rng) @ along
        if not self.sparse:
            edges = quantiles(drawn, np.arange(count) / count)
            edges[0] = OUTSIDE
            return first_layer.constant_behind(sent, along.expand(count, -1), -edges)
        return _two_sided(sent, along, quantiles(drawn, np.arange(count + 1) / count))

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The record of each bin that holds one: the quotient of a unit's weights' update and its bias'."""
        try:
            rows = first_layer.gradient(seen.last, knows)
        except ValueError as error:
            return nothing(str(error))
        used = first_layer.layers(seen.last.sent)[0][0].any(1).nonzero()[:, 0]
        rows = rows[used]
        if not self.sparse:
            rows = torch.cat([rows[:-1] - rows[1:], rows[-1:]])
        return first_layer.singles(Sums(rows, used), seen.last, knows)


def _two_sided(like: Weights, along: Tensor, edges: Tensor) -> dict[str, Tensor]:
    """Units of layer 1 that fire above each bin's lower end, and of layer 2 that are silent above its upper end.

    edges: (k + 1,). The error of a unit of layer 1 is 0 unless both fire.
    """
    widths = (edges[1:] - edges[:-1]).clamp_min(1e-6)
    count = len(widths)
    made = first_layer.constant_behind(like, SMALL * along.expand(count, -1), -SMALL * edges[:-1])
    _, _, weight, bias, last, last_bias = made.values()
    weight.zero_()
    at = torch.arange(count)
    # with equal sizes in front of a unit and behind it, local steps change both by the same share, the least possible
    size = SMALL * (MOVED * widths).sqrt()
    weight[at, at] = -(size / (SMALL * widths)).float()
    bias.fill_(-1.0)
    bias[at] = size.float()
    strength = torch.zeros(last.shape[1])
    strength[at] = -size.float()
    first_layer.last(last, last_bias, strength)
    return made
