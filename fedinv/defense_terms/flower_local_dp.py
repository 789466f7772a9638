"""Terms of Flower's LocalDpMod: the noise that follows from what it is told.

That of the classic Gaussian mechanism (Dwork and Roth 2014, theorem A.1), which holds for one release and an epsilon of
at most 1.
"""

import math


def standard_deviation(sensitivity: float, epsilon: float, delta: float) -> float:
    """Standard deviation of the noise on each coordinate: sensitivity * sqrt(2 ln(1.25 / delta)) / epsilon."""
    return sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon
