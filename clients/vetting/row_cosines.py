"""Units of the first layer look in the same direction."""

from typing import ClassVar, Literal

from fedinv.detector import NOTHING, Detector, Look, Weights

from ._layers import matrices

FEWEST = 8
"""Inputs of a unit below which rows of honest weights are near one another by chance."""


class RowCosines(Detector):
    """Mean, over the first layer's units, of the largest absolute cosine with the weights of another unit.

    Flags layers whose units differ in their biases alone, which sort records into bins, as `imprint` and slabs do.
    Needs nothing but the weights, and units of eight inputs or more.

    Construction: Fowl et al. (2022), Robbing the Fed, makes all rows equal.
    """

    kind: Literal["row-cosines"] = "row-cosines"
    """Selects this detector: units in the same direction."""
    threshold: float = 0.9
    """Score above which weights are flagged: a mean absolute cosine, 0 to 1."""
    highest: ClassVar[float] = 1.0

    def score(self, received: Weights, look: Look) -> float:
        """The mean; a unit without weights counts as like any other such unit."""
        layers = matrices(received)
        if not layers or layers[0].rows.shape[1] < FEWEST or len(layers[0].rows) < 2:
            return NOTHING
        rows = layers[0].rows.double()
        sizes = rows.norm(dim=1, keepdim=True)
        unit = rows / sizes.clamp_min(1e-30)
        cosines = (unit @ unit.T).abs()
        silent = sizes[:, 0] == 0
        cosines[silent[:, None] & silent[None]] = 1.0
        cosines.fill_diagonal_(0.0)
        return float(cosines.amax(1).mean())
