"""The site's log: one line for each message, which says what was decided and why, and holds no data."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from fedinv.errors import RequestError, RunError
from fedinv.privacy.claims import epsilon
from fedinv.privacy.events import Delta, PrivacyEvent
from fedinv.strict import Strict


class Event(Strict):
    """A line of the log."""

    time: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    """Time at which it was decided, in UTC."""
    run: int
    """Number of Flower's run."""
    round: int | None = None
    """Round that the message names; None where it names none."""
    kind: str
    """Flower's message type, such as "train"."""
    verdict: Literal["accepted", "refused", "error"]
    """Whether the reply left, was refused, or the app itself replied with an error."""
    why: str | None = None
    """Reason in one line, of which the server is sent the part before the colon; None for a reply that left."""
    seconds: float
    """Time that the decision took."""
    share: float | None = None
    """Share of the update's records that the attacks read off it; None where it was not attacked."""
    noise_multiplier: float | None = None
    """Noise multiplier of an update that left with noise on it; None for all other replies."""
    epsilon: float | None = None
    """Epsilon of all noised updates up to this one, see `spent`; None where the policy states no delta."""


def append(path: Path, event: Event) -> None:
    """Add a line to the log. Raises RunError where it cannot be written."""
    text = event.model_dump_json(exclude_none=True).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def read(path: Path) -> tuple[Event, ...]:
    """The lines of a log; none where there is no file yet.

    Raises RequestError naming a line that cannot be read, as an epsilon counted without it would be too small.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Event.model_validate(json.loads(line)))
        except (ValueError, ValidationError, RecursionError):
            raise RequestError(
                f"{path}: line {number} is no event of a site's log: name another file under log, or mend the line"
            ) from None
    return tuple(found)


def spent(noise_multipliers: Sequence[float], delta: Delta) -> float:
    """Epsilon of noised updates together, at `delta`, in that all records of the site are replaced by any others.

    One Gaussian mechanism each, chosen adaptively, whose clipped change moves by two clipping norms at most, whatever
    the app does. The arrays alone are covered: not metrics, errors, or when a reply came. Infinite above 10^6.
    """
    if not noise_multipliers:
        return 0.0
    counted = {one: noise_multipliers.count(one) for one in noise_multipliers}
    return epsilon([_event(noise, steps) for noise, steps in counted.items()], delta)


def _event(noise: float, steps: int) -> PrivacyEvent:
    return PrivacyEvent(
        noise_multiplier=noise,
        sampling_rate=1.0,
        steps=steps,
        delta=0.0,
        unit="client",
        neighbors="replace-one",
        mechanism="site",
    )
