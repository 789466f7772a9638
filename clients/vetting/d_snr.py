"""One record's gradient outweighs all others of the batch."""

from typing import Literal

from fedinv.detector import NOTHING, Detector, Look, Weights

from ._layers import record_gradients

LARGEST = 1e6
"""Score of a layer in which a single record has a gradient."""


class DSnr(Detector):
    """Disaggregation signal-to-noise ratio: the largest record's gradient over the sum of all others', of any layer.

    Flags weights that bring out one record of a batch, as `fishing` or a trained selection does. It needs two records
    of the client's, with labels, and the network.

    Paper: Garov, Dimitrov, Jovanović and Vechev (2024), Hiding in plain sight: disguising data stealing attacks in
    federated learning.
    """

    kind: Literal["d-snr"] = "d-snr"
    """Selects this detector: one record's share of the gradient."""
    threshold: float = 5.0
    """Score above which weights are flagged: the largest norm of a record's gradient over the sum of all others'."""

    def score(self, received: Weights, look: Look) -> float:
        """The largest ratio of any layer; 0 where no record has a gradient."""
        found = [norms for norms in record_gradients(received, look) if len(norms) > 1]
        if not found:
            return NOTHING
        worst = 0.0
        for norms in found:
            largest, total = float(norms.max()), float(norms.sum())
            if largest > 0:
                worst = max(worst, min(largest / max(total - largest, largest / LARGEST), LARGEST))
        return worst
