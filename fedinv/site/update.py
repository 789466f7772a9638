"""What bounds an update whatever the app does: clipping, and Gaussian noise of the operating system's randomness."""

import math
import os
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedinv.site.policy import UpdateRules

Arrays = Mapping[str, NDArray[np.generic]]
"""Arrays by name."""
Draw = Callable[[int], bytes]
"""Function that returns so many random bytes."""

PARTS = 4
"""Normal numbers behind each one, half of whose sum is returned: which doubles stand behind a number is then not known,
even to one who knows the generator's steps (Holohan, Braghin 2021, Secure random sampling in differential privacy)."""


def bounded(sent: Arrays, back: Arrays, rules: UpdateRules, draw: Draw = os.urandom) -> dict[str, NDArray[np.generic]]:
    """The arrays that leave, of those that came back, in their order, types and shapes.

    Where `rules` clip, the changes of all floating-point arrays together have at most that L2 norm before the noise;
    arrays of other types are those that were sent, zeros where none was.
    """
    if rules.clip is None:
        return dict(back)
    bases = {name: _base(sent.get(name), array, rules.sends) for name, array in back.items()}
    with np.errstate(over="ignore"):  # what is not finite does not leave
        changes = {
            name: array.astype(np.float64) - bases[name].astype(np.float64)
            for name, array in back.items()
            if array.dtype.kind == "f"
        }
    norm = _norm(changes.values())
    scale = 1.0 if norm <= rules.clip else rules.clip / norm
    std = rules.noise_multiplier * rules.clip
    found = dict[str, NDArray[np.generic]]()
    for name, array in back.items():
        if name not in changes:
            found[name] = bases[name]
            continue
        with np.errstate(invalid="ignore"):
            change = changes[name] * scale
        if std:
            change = change + std * gaussian(change.size, draw).reshape(change.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            found[name] = (bases[name].astype(np.float64) + change).astype(array.dtype)
    return found


def gaussian(count: int, draw: Draw = os.urandom) -> NDArray[np.float64]:
    """Standard normal numbers (count,), by Box and Muller (1958) from the operating system's randomness."""
    pairs = PARTS * math.ceil(count / 2)
    uniform = (np.frombuffer(draw(16 * pairs), dtype="<u8") >> 11).reshape(2, pairs)
    radius = np.sqrt(-2 * np.log((uniform[0] + 1.0) * 2.0**-53))  # of (0, 1], so that the logarithm is finite
    angle = 2 * np.pi * (uniform[1] * 2.0**-53)
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]).reshape(PARTS, -1)
    found: NDArray[np.float64] = normal.sum(0)[:count] / math.sqrt(PARTS)
    return found


def _norm(arrays: Iterable[NDArray[np.float64]]) -> float:
    """Euclidean norm of all arrays together, also where the squares of their numbers are not finite."""
    flat = np.concatenate([array.ravel() for array in arrays] or [np.zeros(0)])
    largest = float(np.abs(flat).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        return largest * float(np.linalg.norm(flat / largest)) if largest else 0.0


def _base(sent: NDArray[np.generic] | None, back: NDArray[np.generic], sends: str) -> NDArray[np.generic]:
    """What changes of an array are counted from: what was sent, or zeros of its type and shape."""
    same = sent is not None and sent.shape == back.shape and sent.dtype == back.dtype
    if sent is None or not same or (sends == "changes" and back.dtype.kind == "f"):
        return np.zeros_like(back)
    return sent
