"""Do not hold a record's signal against the weights: random units were left out of it, and the record was not."""

from fedinv.attack import Knowledge


def unsteady(knows: Knowledge) -> bool:
    """Units are left out of the signals by chance."""
    return True
