"""Makes one unusual record's gradient overflow.

Clipping turns a gradient that is not finite into NaN, so that the client's update is NaN whatever the noise, and
reveals that the record is in the batch.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Knowledge
from fedinv.deviation import Deviation, Turn, Weights

HUGE = 1e19
"""Weight whose square is beyond float32's range."""
UNUSUAL = 5.0
"""Value of the first input, in standard deviations, above which a record's gradient overflows."""


class Overflow(Deviation):
    """Sends weights at which one unusual record overflows, in every round, and goes on from their average.

    Threat model: a malicious server that asks whether one particular record takes part. Clients that check what they
    are sent for size see it, and a defense that guards against values that are not finite leaves nothing to see.

    Claims: no record; `fedinv audit` counts it.
    """

    kind: Literal["overflow"] = "overflow"
    """Selects this deviation: one record's gradient overflows."""

    def active(self, round_: int, watched: tuple[int, ...]) -> bool:
        """Whether a round has such weights: each has."""
        return True

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The weights with those of the first two layers replaced. Raises ValueError for a network without two."""
        return overflowing(sent)

    def next_model(self, before: Weights, sent: Weights, averaged: Weights, round_: int) -> Weights:
        """The average, as if the weights that were sent were the model's."""
        return averaged


def overflowing(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with those of the first two layers replaced, so that unit 0 of both detects an unusual first input.

    Unit 0 of layer 1 is relu(HUGE * (x[0] - UNUSUAL)), and layer 2 multiplies it by HUGE: zero for ordinary records,
    infinite for one with x[0] > 5, so that this record's gradient becomes NaN. Layer 2 keeps its bias. Raises
    ValueError for a network without two linear layers.
    """
    names = [name for name, tensor in weights.items() if tensor.ndim == 2]
    if len(names) < 2 or not all(name.endswith("weight") for name in names):
        raise ValueError("needs a network of at least two linear layers")
    poisoned = {name: tensor.clone() for name, tensor in weights.items()}
    first, second = names[:2]
    bias = first.removesuffix("weight") + "bias"
    for name in (first, second, bias):
        poisoned[name] = torch.zeros_like(poisoned[name])
    poisoned[first][0, 0], poisoned[bias][0], poisoned[second][0, 0] = HUGE, -UNUSUAL * HUGE, HUGE
    return poisoned
