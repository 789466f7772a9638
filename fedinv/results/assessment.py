"""What an assessment finds, as typed values: one leak for each variation of a scenario, and what they say together."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fedinv.results.run import Interval, Rate, Utility

Axis = Literal["as it is", "model", "training", "data", "attacker", "defense"]


class VariationLeak(BaseModel):
    """What one variation gave away; None where no attack could tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: Axis
    change: str
    complexity: int
    run: str
    """The folder of its run, inside the assessment's."""
    records: Rate | None
    """Records rebuilt in full, by the worst attack."""
    attribute: Rate | None
    """Values told of the first sensitive column, all else about a person being known, by the client's update."""
    columns: dict[str, Rate] = {}
    """The same for each sensitive column that was asked for."""
    membership: Rate | None
    """AUC of telling members from others by the trained model's loss; its prior is 0.5."""
    utility: Utility
    gap: float
    """The model's metric on the clients' records less that on held-out ones: how far it has overfitted."""


class Assessment(BaseModel):
    """assessment.json: every variation's leak, and what they say together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str
    seed: int
    findings: list[str]
    """Sentences, the gravest first."""
    unusual: Rate | None
    """Records rebuilt of the quarter of people least like anyone else; its prior is that of the most usual quarter."""
    leaks: list[VariationLeak]
    """The scenario as it is first."""


def change(base: Rate, other: Rate) -> tuple[float, Interval]:
    """How much a rate differs from the base's, with its 95 % interval (Newcombe 1998, method 10)."""
    apart = other.value - base.value
    low = math.hypot(other.value - other.ci95[0], base.ci95[1] - base.value)
    high = math.hypot(other.ci95[1] - other.value, base.value - base.ci95[0])
    return apart, (apart - low, apart + high)


def effect(base: Rate | None, other: Rate | None) -> str:
    """A change of a rate in points with its interval, as "-12.5 (-21.0 to -3.9)"; a dash where it has none."""
    if base is None or other is None:
        return "-"
    apart, (low, high) = change(base, other)
    return f"{100 * apart:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
