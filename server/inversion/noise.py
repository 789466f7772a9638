"""What the attacker knows about the noise and the clipping that defenses applied to an update."""

import math
from collections.abc import Mapping
from typing import Any

from fedinv.attack import Knowledge

NOISY = frozenset({"dp-sgd", "clip-noise", "distributed-noise"})
"""Kinds of defense of whose noise something is known here."""


def noise_std(knows: Knowledge, records: int) -> float:
    """Standard deviation of the known Gaussian noise on each coordinate of the update; 0 where none is known of.

    clip-noise adds clip * noise_multiplier once, distributed-noise that much to a sum of which the mean is seen; dp-sgd
    adds lr * clip * noise_multiplier / batch size in each local step, which adds up like a random walk (Abadi et al.
    2016, algorithm 1).
    """
    variance = 0.0
    if (once := knows.defense("clip-noise")) is not None:
        variance += (_number(once, "clip") * _number(once, "noise_multiplier")) ** 2
    if (shared := knows.defense("distributed-noise")) is not None:
        clients = _number(shared, "cohort") or 1.0
        variance += (_number(shared, "clip") * _number(shared, "noise_multiplier") / clients) ** 2
    if (each := knows.defense("dp-sgd")) is not None and knows.lr is not None:
        batch = min(knows.batch_size or records, records)
        steps = 1 if knows.algorithm == "fedsgd" else (knows.epochs or 1) * math.ceil(records / batch)
        variance += steps * (knows.lr * _number(each, "clip") * _number(each, "noise_multiplier") / batch) ** 2
    return math.sqrt(variance)


def rescaled(knows: Knowledge, length: float) -> bool:
    """Whether a known defense may have shortened an update (of this length, noise taken off) by an unknown factor."""
    clip_noise = knows.defense("clip-noise")
    cut = clip_noise is not None and length > 0.9 * _number(clip_noise, "clip")
    return cut or knows.defense("dp-sgd") is not None


def record_clip(knows: Knowledge) -> float:
    """Norm to which dp-sgd is known to cut each record's gradient; infinite where it is not known of."""
    each = knows.defense("dp-sgd")
    return math.inf if each is None else _number(each, "clip") or math.inf


def _number(defense: Mapping[str, Any], key: str) -> float:
    value = defense.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
