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
    """record -> the point of highest loss within `radius` of it in every input, found by `steps` signed steps.

    Each record is moved on its own, so that clipping each record's gradient bounds its share and dp-sgd's claim holds.
    Claims no differential privacy by itself: heuristic. Costs `steps` more passes in each local step, and no bytes.
    """

    kind: Literal["adversarial-training"] = "adversarial-training"
    neutral: ClassVar[Mapping[str, Any] | None] = {"radius": 1e-12}
    radius: float = Field(default=0.1, gt=0)
    """Largest change of an input: in standard deviations for numbers and pixels, in parts of 1 for one-hot inputs."""
    steps: int = Field(default=5, ge=1, le=100)
    """Number of steps up the loss; each costs one more pass."""
    step: float = Field(default=0.03, gt=0)
    """Length of a step, in the unit of the radius."""

    def augment(self, batch: Batch, network: nn.Sequential, rng: np.random.Generator) -> Batch:
        """Move the batch's records up the loss; targets are unchanged."""
        moved = perturbed(network, batch.inputs, batch.targets, self.radius, self.steps, self.step)
        return Batch(moved, batch.targets)
