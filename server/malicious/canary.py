"""Makes units that fire at one person each: who is there?"""

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Asks, Claim, Knowledge, Observation, Progress, nothing
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.columns import Categorical
from fedinv.task.models import AnyModel
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema

MISMATCH = 64.0
"""Weight of a category: one that differs silences a unit, as numbers along a direction add up to less."""
MARGIN = 0.05
"""Pre-activation of a unit at its own record, in standard deviations."""
LOUD = 10.0
"""Gradient at a unit of layer 1 for an error of 1 at an output."""


class Canary(Deviation):
    """Each unit of the first layer fires at the record of one person who is asked about, and at nobody else's.

    Threat model: a malicious server that has the records of the people it asks about, and sends all clients the same
    weights. It needs a perceptron with ReLU and the schema. Behind secure aggregation the sum says who is in any batch,
    as all others leave 0 in a unit's bias. Where more people are asked about than the layer has units, the next watched
    rounds ask about the next of them; without people, about the auxiliary records.

    Claims: no record; the attack `presence` scores people by it.

    Paper: Pasquini, Francati and Ateniese (2022), Eluding secure aggregation in federated learning via model
    inconsistency, on canary gradients. There the layers before one unit are trained to fire on the target
    alone; here a unit's weights are the record itself: it fires where all categories agree and the numbers reach as far
    in the record's direction as its own.
    """

    kind: Literal["canary"] = "canary"
    """Selects this deviation: units that fire at one person's record each."""
    alike: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True
    asks: ClassVar[Asks | None] = "membership"

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network is no perceptron with ReLU; None where it is."""
        if not isinstance(model, Mlp) or model.activation != "relu":
            return "needs a perceptron with hidden layers and ReLU, whose units can be silent"
        return None

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The units of the next people asked about. Raises ValueError where the schema is withheld or does not fit."""
        if knows.schema is None:
            raise ValueError("the schema is withheld, by which units are made to fire at one record")
        asked = None if knows.question is None else knows.question.people
        people = asked or knows.auxiliary
        if people is None or not len(people):
            return sent  # a scenario without anybody to ask about is refused before it begins
        units = len(next(iter(sent.values())))
        begin = len(turn.seen) * units % max(1, len(people))
        return canaries(sent, knows.schema, people.records[begin : begin + units])

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """No record: the question is who is in the update."""
        width = next(iter(seen.last.sent.values())).shape[-1]
        return nothing("canaries say who is in an update, ask the attack presence", width)


def canaries(like: Weights, schema: Schema, people: Tensor) -> dict[str, Tensor]:
    """A perceptron whose first unit fires at the first of some people (k, width) alone, and so on.

    All layers behind pass on whatever fires. Raises ValueError where the inputs are not the
    schema's columns.
    """
    made = {name: torch.zeros_like(tensor) for name, tensor in like.items()}
    tensors = list(made.values())
    if tensors[0].ndim != 2 or tensors[0].shape[1] != schema.width or schema.image is not None:
        raise ValueError("the network is no perceptron over the schema's columns")
    records, hot = people.double(), torch.zeros(schema.width, dtype=torch.bool)
    groups = 0
    for column, where in zip(schema.columns, schema.slices, strict=True):
        hot[where] = isinstance(column, Categorical)
        groups += isinstance(column, Categorical)
    numbers = records * ~hot
    size = numbers.norm(dim=1, keepdim=True)
    count = len(records)
    tensors[0][:count] = (numbers / size.clamp_min(1e-9) + MISMATCH * records * hot).float()
    tensors[1].fill_(-1.0)
    tensors[1][:count] = (-size[:, 0] - MISMATCH * groups + MARGIN).float()
    inputs = torch.ones(len(tensors[1]))
    for place, (weight, bias) in enumerate(zip(tensors[2:-2:2], tensors[3:-2:2], strict=True)):
        signs = torch.ones(len(bias))
        signs[1::2] = -1.0
        weight.copy_(signs[:, None] * inputs / (len(inputs) if place else 1))
        bias.fill_(1.0)
        inputs = signs
    # half of the units each way, so that the outputs stay near 0 and no record's error is lost
    tensors[-2].copy_((inputs * LOUD / len(inputs)).repeat(len(tensors[-2]), 1))
    tensors[-2][0] *= -1
    return made
