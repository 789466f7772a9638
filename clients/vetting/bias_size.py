"""Biases are larger than the weights beside them."""

from typing import Literal

from fedinv.detector import NOTHING, Detector, Look, Weights

from ._layers import matrices


class BiasSize(Detector):
    """The largest absolute bias of a layer over the median norm of its units' weights, of any layer.

    Flags biases that cut records off or silence a layer, as `inconsistency`, `fishing` and bins do. Needs nothing but
    the weights, and a layer with biases.

    Constructions: Fowl et al. (2022) and Wen et al. (2022), Fishing for user data in large-batch federated
    learning via gradient magnification.
    """

    kind: Literal["bias-size"] = "bias-size"
    """Selects this detector: large biases."""
    threshold: float = 2.0
    """Score above which weights are flagged: a bias in units of the norm of a unit's weights."""

    def score(self, received: Weights, look: Look) -> float:
        """The largest ratio of any layer, a million at most."""
        ratios = [
            float(one.bias.abs().max() / one.rows.norm(dim=1).median().clamp_min(1e-9))
            for one in matrices(received)
            if one.bias is not None and len(one.bias)
        ]
        return min(max(ratios), 1e6) if ratios else NOTHING
