"""A mechanism's charge to a client's ledger for one round.

The bounds hold where a charge is read, from a file or from a client's message (see `fedinv.privacy.ledger.read`).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

HIGHEST = 1e6
"""Epsilon above which nothing is guaranteed that is worth the name: larger ones are reported as infinite."""

Epsilon = Annotated[float, Field(gt=0, le=HIGHEST)]
"""A privacy budget, as a key of a defense: above 0, at most 10^6."""
NoiseMultiplier = Annotated[float, Field(ge=0, le=1e4)]
"""Standard deviation of noise over the clipping norm, as a key of a defense: 0 adds none, 10,000 drowns everything."""
Delta = Annotated[float, Field(gt=0, lt=1)]
"""Delta of an (epsilon, delta) guarantee, a probability."""


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

    __pydantic_config__ = ConfigDict(extra="forbid")  # read from a file or a message, it has no other keys

    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Standard deviation of the noise as a multiple of the clipping norm; 0 gives an infinite epsilon."""
    sampling_rate: Annotated[float, Field(ge=0, le=1)]
    """Probability that a step uses a given unit; 1 where all are used."""
    steps: Annotated[int, Field(ge=0, lt=2**53)]
    """Number of steps that are composed."""
    delta: Annotated[float, Field(ge=0, lt=1)]
    """Delta at which epsilon is stated, a probability."""
    unit: Literal["example", "client"]
    """Protected unit: one record ("example"), or all records of a client ("client")."""
    neighbors: Literal["add-or-remove-one", "replace-one"]
    """Neighboring relation: data sets that differ by one unit more, or by one unit's content."""
    mechanism: Annotated[str, Field(max_length=80)]
    """Kind of the defense that is charged."""
    sampling: Literal["poisson", "fixed-size"] = "poisson"
    """Sampling scheme: each unit independently ("poisson"), or a fixed number without replacement ("fixed-size")."""
    population: Annotated[int, Field(ge=0)] = 0
    """Number of units from which a sample of fixed size is drawn; unused for Poisson sampling."""
    budget: Annotated[float, Field(gt=0)] | None = None
    """Largest epsilon over the whole run; a client stops taking part before it is exceeded. None: no limit."""
    shares: float = 0.0
    """Number of clients whose shares make up the noise; 0 where no other client's noise counts."""
    against_server: bool = True
    """True: the guarantee holds against the server; False: only against those who see the models alone."""
