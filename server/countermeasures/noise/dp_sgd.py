"""Clips each record's gradient as dp-sgd did, and models the steps' noise by its known size."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedinv.attack import Exchange, Knowledge

from ...inversion.local_training import known_course
from .._numbers import number


def noise(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> float:
    """Standard deviation of the noise on each coordinate of the update; 0 where the learning rate is withheld.

    Each local step adds noise of clip * noise_multiplier / divisor to its gradient, which goes into the update with the
    gradient's factor, so that it adds up like a random walk (Abadi et al. 2016, algorithm 1). Behind an adaptive
    optimizer, which scales it by itself, it has no known size: 0.
    """
    if knows.lr is None or knows.adaptive:
        return 0.0
    batch = min(knows.batch_size or last.records, last.records)
    plan = known_course(replace(knows, epochs=knows.epochs or 1, batch_size=batch), last.records)
    factor = knows.lr if plan is None else float(plan.moved[-1].norm())
    return factor * number(defense, "clip") * number(defense, "noise_multiplier") / (divisor(defense) or batch)


def record_clip(defense: Mapping[str, Any]) -> float:
    """Norm to which each record's gradient was clipped; infinite where none is given."""
    return number(defense, "clip") or math.inf


def divisor(defense: Mapping[str, Any]) -> float:
    """The public number that sums are divided by, as Poisson sampling draws a varying number of records."""
    return number(defense, "divisor")
