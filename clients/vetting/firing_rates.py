"""Most units of a layer fire on hardly any own record."""

from typing import ClassVar, Literal

import torch

from fedinv.detector import NOTHING, Detector, Look, Weights

from ._layers import firing

FEWEST = 4
"""Records of a client below which the share that fires a unit is too coarse."""


class FiringRates(Detector):
    """Share of a layer's units that fire on no record of the client, or on a few of them alone, of any layer with ReLU.

    Flags layers that are silent, as `inconsistency` sends, and biases set so that a unit fires on about one record of a
    batch, as `qbi` and the outer bins of `imprint` do. It needs four records of the client's, and the network.

    Construction: Nowak et al. (2024), QBI: Quantile-based bias initialization for efficient private data reconstruction
    in federated learning.
    """

    kind: Literal["firing-rates"] = "firing-rates"
    """Selects this detector: units that hardly a record fires."""
    threshold: float = 0.9
    """Score above which weights are flagged: a share of a layer's units, 0 to 1."""
    share: float = 0.05
    """Share of the client's records, 0 to 1, up to which a unit counts as fired by few; one record always does."""
    highest: ClassVar[float] = 1.0

    def score(self, received: Weights, look: Look) -> float:
        """The largest share of any layer."""
        found = [one for one in firing(received, look) if one.records >= FEWEST]
        if not found:
            return NOTHING
        few = [one.counts <= max(1.0, self.share * one.records) for one in found]
        return max(float(one.to(torch.float64).mean()) for one in few)
