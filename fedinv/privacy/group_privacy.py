"""Group privacy: what a guarantee for one record says of all records of a person."""

import math


def of_group(epsilon: float, delta: float, size: int) -> tuple[float, float]:
    """Epsilon and delta for `size` records together, from those of one; a delta of 1 or more is no guarantee.

    Dwork, Roth 2014, theorem 2.2, with delta summed over the steps from record to record (Vadhan 2017, lemma 2.2).
    """
    together = size * epsilon
    if together > math.log(1e300):
        return together, math.inf if delta else 0.0
    factor = float(size) if epsilon == 0 else math.expm1(together) / math.expm1(epsilon)
    return together, delta * factor


def said(epsilon: float, delta: float, size: int) -> str:
    """A sentence on what a guarantee for one record says of a person with up to `size` of them."""
    together, failing = of_group(epsilon, delta, size)
    of_all = f"epsilon {together:.3g} at delta {failing:.2g}" if failing < 1 else "no guarantee at all"
    return (
        f"epsilon {epsilon:.3g} protects one row; a client holds up to {size} rows of a person, for whom all together "
        f"group privacy leaves {of_all}"
    )
