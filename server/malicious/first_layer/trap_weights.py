"""Half-negative rows of the first layer, which few records fire."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Claim, Knowledge, Observation, Progress, nothing
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.models import AnyModel

from ...crafting import elimination, first_layer
from ...crafting.dictionary import bounds
from ...crafting.first_layer import Sums
from ...crafting.quantiles import samples

DRAWN = 4000
"""Records drawn from the schema by which rows are set, unless batches are large."""
TAKEN_OUT = 3.0
"""Records at which a unit fires on average where those that are read are taken out: with more, a batch that is large
for the layer leaves too few units that fire at one; with fewer, more records fire none."""


class TrapWeights(Deviation):
    """Each row a random half of negative weights, the other positive and a little smaller: most records give 0.

    Threat model: a malicious server that sends all clients the same weights, of the agreed architecture, which look
    more random than parallel rows do. It needs the schema, by which inputs are counted from their smallest value on, as
    pixels are, and how much smaller the positive half is.

    Claims: the record of each unit that fires at one alone, where the public dictionary or its coefficient shows it,
    and, after a single step, those of all units at which one is left once the others are taken out.

    Paper: Boenisch, Dziedzic, Schuster, Shamsabadi, Shumailov and Papernot (2023), When the curious abandon honesty:
    federated learning is not private, arXiv 2112.02918, on trap weights. Taking records out of further units is ours:
    `server.crafting.elimination`.
    """

    kind: Literal["trap-weights"] = "trap-weights"
    """Selects this deviation: rows that are half negative."""
    scaling: float | None = Field(default=None, gt=0, lt=1)
    """Size of positive weights to negative ones, above 0 and below 1; the paper takes 0.95 to 0.99 for images. Default:
    for each row the one at which one record of a batch fires, by draws from the schema or auxiliary records."""
    records: int | None = Field(default=None, gt=1)
    """Records of an update that are reckoned with, 2 or more. Default: the batch size."""
    eliminate: bool = True
    """True: a record that is read is taken out of the rows of all units that fire at it, which leaves others alone
    there. False: only units that fire at one record are read, as in the paper."""
    fires: float | None = Field(default=None, gt=0, le=64)
    """Records at which a unit fires on average, above 0 and up to 64. Default: 3 where clients take a single step,
    records are eliminated and are no more than units; else 1, as in the paper."""
    alike: ClassVar[bool] = True

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network does not begin with a linear layer and ReLU; None where it does."""
        return first_layer.no_relu(model)

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The rows. Raises ValueError where the schema is withheld, or how many records are reckoned with."""
        count, width = first_layer.layers(sent)[0][0].shape
        schema, many = first_layer.reckoned(sent, knows, self.records, "ranges")
        low = bounds(schema)[0]
        above = samples(schema, knows, rng)[: max(DRAWN, 10 * many)] - low
        size = torch.from_numpy(np.abs(rng.standard_normal((count, width))))
        order = torch.from_numpy(rng.permuted(np.tile(np.arange(width), (count, 1)), axis=1))
        negative = order < (width + 1) // 2
        scale = torch.full((count,), self.scaling or 1.0).double()
        if self.scaling is None:
            plus, minus = above @ (size * ~negative).T, above @ (size * negative).T
            ratio = (minus / plus.clamp_min(1e-9)).clamp_max(1e3)
            scale = ratio.quantile(min(0.5, often(self.fires, self.eliminate and many <= count, knows) / many), dim=0)
        rows = torch.where(negative, -size, scale[:, None] * size)
        return first_layer.constant_behind(sent, rows, -(rows @ low))

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The record of each unit that fired at one alone."""
        return alone(seen, knows, self.eliminate)


def often(fires: float | None, eliminate: bool, knows: Knowledge) -> float:
    """Records at which a unit is to fire on average; `fires` where it is given."""
    return fires or (TAKEN_OUT if eliminate and knows.algorithm == "fedsgd" else 1.0)


def alone(seen: Observation, knows: Knowledge, eliminate: bool) -> Claim:
    """The record of each unit of the first layer that fired at one alone, also once others are taken out."""
    try:
        rows = first_layer.gradient(seen.last, knows)
    except ValueError as error:
        return nothing(str(error))
    if eliminate:
        return elimination.eliminated(rows, seen.last, knows)
    return first_layer.singles(Sums(rows, torch.arange(len(rows))), seen.last, knows)
