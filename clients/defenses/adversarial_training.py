"""Trains on records moved to where the network does worst.

Madry, Makelov, Schmidt, Tsipras, Vladu 2018 (Towards deep learning models resistant to adversarial attacks), section 2:
projected gradient descent within a box.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import nn

from fedinv.defense import Batch, Defense
from fedinv.defense_terms.adversarial_training import perturbed


class AdversarialTraining(Defense):
    """record -> the worst one within `radius` of it in every input, found by `steps` signed steps.

    Each record is moved by itself, so that clipping examples bounds its share and dp-sgd's claim holds. Claims no
    differential privacy by itself: heuristic. Costs `steps` more passes each local step, and no bytes.
    """

    kind: Literal["adversarial-training"] = "adversarial-training"
    neutral: ClassVar[Mapping[str, Any] | None] = {"radius": 1e-12}
    radius: float = Field(default=0.1, gt=0)
    """Standard deviations of a numeric column; one-hot columns are moved by as much of 1."""
    steps: int = Field(default=5, ge=1, le=100)
    step: float = Field(default=0.03, gt=0)
    """Length of each, in the unit of the radius."""

    def augment(self, batch: Batch, network: nn.Sequential, rng: np.random.Generator) -> Batch:
        """Move the batch's records uphill, beginning where they are."""
        moved = perturbed(network, batch.inputs, batch.targets, self.radius, self.steps, self.step)
        return Batch(moved, batch.targets)
