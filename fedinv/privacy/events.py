"""What one round of a mechanism is charged to a client's ledger."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RecordExposure:
    """All that the server saw which depends on one record: Gaussian releases, each moved by it by one clipping norm."""

    noise_multiplier: float
    """Standard deviation of each release's noise over the clipping norm."""
    releases: tuple[tuple[float, int], ...]
    """Chance that the record was in a release, 0 to 1, and the number of releases of that chance."""


@dataclass(frozen=True)
class PrivacyEvent:
    """A mechanism's charge to the ledger: Gaussian noise on a sample, composed over steps."""

    noise_multiplier: float
    """Noise's standard deviation over the clipping norm; 0 is no privacy at all."""
    sampling_rate: float
    """Chance that a step uses the unit; 1 where it always does."""
    steps: int
    delta: float
    unit: Literal["example", "client"]
    neighbors: Literal["add-or-remove-one", "replace-one"]
    mechanism: str
    sampling: Literal["poisson", "fixed-size"] = "poisson"
    """How the sample is drawn: each unit by itself, or so many of them without replacement."""
    population: int = 0
    """Units that a sample of fixed size is drawn from."""
    budget: float | None = None
    """Epsilon that may be spent in all."""
    against_server: bool = True
    """Whether the server, too, sees nothing but what the noise protects."""
