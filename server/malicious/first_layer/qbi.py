"""Random rows whose bias lets one record of a batch fire a unit."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Claim, Knowledge, Observation, Progress
from fedinv.deviation import Deviation, Dial, Turn, Weights
from fedinv.task.columns import Categorical
from fedinv.task.models import AnyModel
from fedinv.task.schema import Schema

from ...crafting import first_layer
from ...crafting.quantiles import quantiles, samples
from .trap_weights import DRAWN, alone, often

LEAST = 0.1
"""Least standard deviation by which an input is standardized: a rare category would else decide by itself."""


class Qbi(Deviation):
    """Random rows with the bias at the quantile 1 - 1/n of what a row gives, n records a batch.

    Threat model: a malicious server that sends all clients the same weights, of the agreed architecture, whose rows are
    as random as those of a new network; its biases are large. It needs the schema: on standardized inputs the quantile
    is the paper's Phi^-1(1 - 1/n) sqrt(d), and categories have others. With auxiliary records rows are chosen, not only
    biases: the paper's PAIRS.

    Claims: the record of each unit that fires at one alone, where the public dictionary or its coefficient shows it,
    and, after a single step, those of all units at which one is left once the others are taken out.

    Paper: Nowak et al. (2024), QBI: Quantile-based bias initialization for efficient private data reconstruction in
    federated learning, arXiv 2406.18745. Taking records out of further units is ours: `server.crafting.elimination`.
    """

    kind: Literal["qbi"] = "qbi"
    """Selects this deviation: random rows, biases by quantiles."""
    records: int | None = Field(default=None, gt=1)
    """Records of an update that are reckoned with, 2 or more. Default: the batch size."""
    eliminate: bool = True
    """True: a record that is read is taken out of the rows of all units that fire at it, which leaves others alone
    there. False: only units that fire at one record are read, as in the paper."""
    fires: float | None = Field(default=None, gt=0, le=64)
    """Records at which a unit fires on average, above 0 and up to 64. Default: 3 where clients take a single step,
    records are eliminated and are no more than units; else 1, as in the paper."""
    redraws: int = Field(default=8, ge=1, le=64)
    """Rows drawn for each that is sent, 1 to 64, of which PAIRS chooses by the auxiliary records; without any, with 1,
    or where units fire at more than one record, the first ones are sent."""
    own_rows: bool = False
    """True: the model's biases and layers behind are kept, to evade clients that vet them; each row is lowered by the
    same amount for every value of a category, which lowers what its unit gives every record as a bias would."""
    alike: ClassVar[bool] = True
    evasions: ClassVar[tuple[Mapping[str, Any], ...]] = (
        *Deviation.evasions,
        {"own_rows": True},
    )
    dials: ClassVar[tuple[Dial, ...]] = (*Deviation.dials, Dial("units", 0.01, 1.0, {"own_rows": True}))

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network does not begin with a linear layer and ReLU; None where it does."""
        return first_layer.no_relu(model)

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The rows. Raises ValueError where the schema is withheld, or how many records are reckoned with."""
        count, width = first_layer.layers(sent)[0][0].shape
        schema, many = first_layer.reckoned(sent, knows, self.records, "quantiles")
        drawn = samples(schema, knows, rng)[: max(DRAWN, 10 * many)]
        if self.own_rows:
            return lowered(sent, schema, drawn, many)
        known = None if knows.auxiliary is None or not len(knows.auxiliary) else knows.auxiliary.records.double()
        fires = often(self.fires, self.eliminate and many <= count, knows)
        # PAIRS chooses rows that fire at a single record
        redraws = 1 if known is None or fires > 1 else self.redraws
        rows = torch.from_numpy(rng.standard_normal((count * redraws, width))) / drawn.std(0).clamp_min(LEAST)
        rows /= rows.norm(dim=1, keepdim=True)
        level = np.array([1 - min(0.5, fires / many)])
        biases = -torch.cat([quantiles(along, level) for along in (drawn @ rows.T).T])
        if known is not None and redraws > 1:
            chosen = pairs(known @ rows.T + biases, (count, many), rng)
            rows, biases = rows[chosen], biases[chosen]
        return first_layer.constant_behind(sent, rows, biases)

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The record of each unit that fired at one alone."""
        return alone(seen, knows, self.eliminate)


def lowered(sent: Weights, schema: Schema, drawn: Tensor, many: int) -> Weights:
    """The model with rows of the first layer that fire on one of `many` records like those drawn (n, d), or on fewer.

    Raises ValueError where no column is a category, whose inputs add up to one at every record.
    """
    name = next(iter(sent))
    weight, bias = first_layer.layers(sent)[0]
    groups = [
        where for column, where in zip(schema.columns, schema.slices, strict=True) if isinstance(column, Categorical)
    ]
    if not groups:
        raise ValueError("the schema has no category, by which a row is lowered in the place of its bias")
    level = np.array([1 - min(0.5, 1 / many)])
    above = torch.cat([quantiles(along, level) for along in (drawn @ weight.T + bias).T]).clamp_min(0.0)
    rows = weight.clone()
    for where in groups:
        rows[:, where] -= (above / len(groups))[:, None]
    return {**sent, name: rows.to(sent[name].dtype)}


def pairs(values: Tensor, wanted: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Positions of rows, by what they give auxiliary records (a, rows): `wanted` are how many, and a batch's records.

    Of each batch of auxiliary records a row must fire at exactly one, and another record for each row as long as there
    are such rows; then any row that fires at one, and at last those that are left.
    """
    count, size = wanted
    records = len(values)
    batches = np.array_split(rng.permutation(records), max(1, records // size))
    fires = values > 0
    covered: dict[int, int] = {}
    chosen = list[int]()
    single = [(fires[torch.from_numpy(batch)].sum(0) == 1, torch.from_numpy(batch)) for batch in batches]
    share = torch.stack([one for one, _ in single]).double().mean(0)
    order = (share + 1e-6 * torch.from_numpy(rng.random(values.shape[1]))).argsort(descending=True).tolist()
    first = fires.double().argmax(0).tolist()
    for times in range(1, values.shape[1] + 1):
        if len(chosen) >= count:
            break
        taken = set(chosen)
        for row in order:
            if len(chosen) < count and row not in taken and covered.get(first[row], 0) < times:
                covered[first[row]] = covered.get(first[row], 0) + 1
                chosen.append(row)
    return torch.tensor(chosen[:count])
