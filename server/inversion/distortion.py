"""The known effect of defenses on an update, between the gradients and the wire."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Distortion:
    """Effect of the known defenses on one update; with every default there is none."""

    noise: float = 0.0
    """Standard deviation of the noise that was added to each coordinate of the update."""
    rounding: float = 0.0
    """Standard deviation of the rounding error in each coordinate of the update."""
    record_clip: float = math.inf
    """Norm to which each record's gradient was clipped before the gradients were summed."""
    update_clip: float = math.inf
    """Norm to which the whole update was clipped, before noise was added."""
    divisor: float = 0.0
    """Number that the sum of the gradients was divided by, whatever the number of records; 0: by that number."""
    masks: Mapping[str, Tensor] | None = None
    """Bool by parameter: the coordinates that still depend on the gradient. None: all do."""
    only_signs: bool = False
    """Whether nothing but the signs of the update was sent."""

    @property
    def spread(self) -> float:
        """Standard deviation of noise and rounding together, on each coordinate of the update."""
        return math.hypot(self.noise, self.rounding)

    def rescales(self, length: float) -> bool:
        """Whether clipping may have scaled an update of this norm, without its noise, by an unknown factor."""
        return self.record_clip < math.inf or length > 0.9 * self.update_clip


UNDISTORTED = Distortion()
"""The distortion where no defense is known: the update is taken as training left it."""
