"""Trains on labels of which a share is spread out.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016 (Rethinking the Inception architecture), section 7.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import nn

from fedinv.defense import Batch, Defense, Trial


class LabelSmoothing(Defense):
    """label -> (1 - share) * label + share / classes. Numeric labels are unchanged.

    Claims no differential privacy: heuristic. Costs no bytes and hardly any time.
    """

    kind: Literal["label-smoothing"] = "label-smoothing"
    neutral: ClassVar[Mapping[str, Any] | None] = {"share": 0.0}
    trials = (Trial(80),)
    share: float = Field(default=0.1, ge=0, lt=1)
    """Share of each label that is spread evenly over all classes."""

    def augment(self, batch: Batch, network: nn.Sequential, rng: np.random.Generator) -> Batch:
        """Smooth the batch's class probabilities; standardized numbers are unchanged."""
        if batch.targets.ndim == 1:
            return batch
        return Batch(batch.inputs, (1 - self.share) * batch.targets + self.share / batch.targets.shape[1])
