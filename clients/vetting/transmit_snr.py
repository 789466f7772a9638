"""A unit of the first layer passes on one single input."""

from typing import Literal

from fedinv.detector import NOTHING, Detector, Look, Weights

from ._layers import matrices

FEWEST = 16
"""Inputs of a unit below which honest weights may look so."""


class TransmitSnr(Detector):
    """Transmit signal-to-noise ratio: a first-layer unit's largest absolute weight over the sum of all its others'.

    Flags first layers that hand inputs on, one a unit or filter; copies that also look at categories, as those of
    `grid`, come near to it. Needs nothing but the weights, and units of sixteen inputs or more.

    Paper: Garov, Dimitrov, Jovanović and Vechev (2024), Hiding in plain sight: disguising data stealing attacks in
    federated learning.
    """

    kind: Literal["transmit-snr"] = "transmit-snr"
    """Selects this detector: units that copy an input."""
    threshold: float = 0.35
    """Score above which weights are flagged: a weight over the sum of all others of its unit."""

    def score(self, received: Weights, look: Look) -> float:
        """The largest ratio of any unit of the first layer."""
        layers = matrices(received)
        if not layers or layers[0].rows.shape[1] < FEWEST:
            return NOTHING
        sizes = layers[0].rows.abs().double()
        largest = sizes.amax(1)
        rest = sizes.sum(1) - largest
        used = largest > 0
        if not bool(used.any()):
            return 0.0
        return float((largest[used] / rest[used].clamp_min(1e-6 * largest[used])).max().clamp_max(1e6))
