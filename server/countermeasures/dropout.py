"""Hold no record's signal against the sent weights: dropout zeroed random hidden units; inputs are untouched."""

from fedinv.attack import Knowledge


def random_network(knows: Knowledge) -> bool:
    """Units are left out of the signals by chance."""
    return True
