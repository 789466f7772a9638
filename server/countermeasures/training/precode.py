"""Ignores PRECODE's random bottleneck: the layers in front of it are trained on the records all the same.

Balunovic, Dimitrov, Staab, Vechev 2022 (Bayesian framework for gradient leakage), section 5.2, for the idea that the
defense only protects from matching the whole gradient.
"""

from fedinv.attack import Knowledge


def random_network(knows: Knowledge) -> bool:
    """True: back-propagated signals pass the bottleneck's random draw."""
    return True
