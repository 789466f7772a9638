"""Trains on mixtures of two records and their labels.

Zhang, Cisse, Dauphin, Lopez-Paz 2018 (mixup: beyond empirical risk minimization), section 2, with one share a batch.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from fedinv.defense import Batch, Defense


class Mixup(Defense):
    """record -> share * record + (1 - share) * another of the batch, labels likewise; share ~ Beta(alpha, alpha).

    Claims no differential privacy: heuristic. Costs no bytes and hardly any time.
    """

    kind: Literal["mixup"] = "mixup"
    neutral: ClassVar[Mapping[str, Any] | None] = {"alpha": 1e-6}
    mixes_records = True
    alpha: float = Field(default=1.0, gt=0)
    """Parameter of the Beta(alpha, alpha) distribution of the share: 1 is uniform, less favors shares near 0 and 1,
    more favors one half."""

    def augment(self, batch: Batch, network: nn.Sequential, rng: np.random.Generator) -> Batch:
        """Mix every record of the batch, and its label, with that in its place of a random permutation."""
        share = float(rng.beta(self.alpha, self.alpha))
        other = torch.from_numpy(rng.permutation(len(batch.inputs)))
        return Batch(
            share * batch.inputs + (1 - share) * batch.inputs[other],
            share * batch.targets + (1 - share) * batch.targets[other],
        )
