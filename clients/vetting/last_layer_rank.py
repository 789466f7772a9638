"""The last layer's rows are multiples of one another."""

from typing import ClassVar, Literal

import torch

from fedinv.detector import NOTHING, Detector, Look, Weights

from ._layers import matrices


class LastLayerRank(Detector):
    """Share of the last layer's squared singular values that the largest has: 1 where its rank is 1.

    Flags last layers through which every record's error comes back as one known vector, as slabs and `grid` need it.
    Needs nothing but the weights, and two outputs or more.

    Construction: slabs with a saturated last layer; honest rows are pulled apart by training, slowly.
    """

    kind: Literal["last-layer-rank"] = "last-layer-rank"
    """Selects this detector: a last layer of rank 1."""
    threshold: float = 0.999
    """Score above which weights are flagged: a share of the squared singular values, 0 to 1."""
    highest: ClassVar[float] = 1.0

    def score(self, received: Weights, look: Look) -> float:
        """The share; 1 for a layer of zeros."""
        layers = matrices(received)
        if not layers or min(layers[-1].rows.shape) < 2:
            return NOTHING
        squares = torch.linalg.svdvals(layers[-1].rows.double()).square()
        total = float(squares.sum())
        return float(squares[0]) / total if total > 0 else 1.0
