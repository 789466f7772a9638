"""assessment.json as typed values: the leak of each variation of a scenario, and the findings."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fedinv.results.run import Interval, Rate, Utility

Axis = Literal["as it is", "model", "training", "data", "attacker", "defense"]


class VariationLeak(BaseModel):
    """Leakage of one variation of the scenario; a measure is None where no attack could take it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: Axis
    """Part of the scenario that was varied; "as it is" for the scenario itself."""
    change: str
    """Variation in words, as tables and plots show it."""
    complexity: int
    """Change in complexity: 1 where the model is more complex or trains longer, -1 where less so, else 0."""
    run: str
    """Folder of the variation's run, relative to the assessment's folder."""
    records: Rate | None
    """Share of the records that the strongest attack recovered in full; its interval is that of the maximum over all
    attacks that were run."""
    by: str | None = None
    """Kind and variant of that attack; None where no attack claimed anything."""
    unfinished: dict[str, list[str]] = {}
    """Limits of the attack's own, by its kind, that ended it before it was done: beyond them it may rebuild more."""
    fields: Rate | None = None
    """Share of right fields under the attack that exceeds a guess most; None where no attack could take it."""
    attribute: Rate | None
    """Share of right values of the first sensitive column, inferred from the client's update and all other fields."""
    columns: dict[str, Rate] = {}
    """Share of right values, likewise, of each sensitive column that was asked for, by column."""
    membership: Rate | None
    """AUC of membership inference by the trained model's loss; its prior is 0.5."""
    guarantee: str | None = None
    """Differential privacy guaranteed against the server, in words; None without a guarantee."""
    utility: Utility
    """Quality of the trained model on held-out records."""
    gap: float | None
    """Overfitting: the model's metric on the clients' records minus that on held-out records; None where either cannot
    be measured."""

    def newly_unfinished(self, base: "VariationLeak") -> dict[str, list[str]]:
        """Limits of attacks that were ended here, but not at the scenario as it is, by kind."""
        return {kind: limits for kind, limits in self.unfinished.items() if kind not in base.unfinished}


class Assessment(BaseModel):
    """The content of assessment.json: the leak of every variation, and the findings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str
    """Name of the scenario."""
    seed: int
    """Seed of all runs."""
    findings: list[str]
    """Findings as sentences, the gravest first."""
    unusual: Rate | None
    """Share of recovered records in the most unusual quarter of people; its prior is that of the most usual quarter."""
    attacks: list[str] = []
    """Kinds of the attacks that every variation met."""
    not_tried: dict[str, str] = {}
    """Reason, by kind, for each attack that was not run: nothing is known of what it would reveal."""
    leaks: list[VariationLeak]
    """Leak of every variation, the scenario as it is first."""


def change(base: Rate | None, other: Rate | None) -> tuple[float, Interval] | None:
    """Difference of a rate from the base's, with its 95 % interval (Newcombe 1998, method 10).

    None where either was not measured.
    """
    before, after = base.numbers if base else None, other.numbers if other else None
    if before is None or after is None:
        return None
    value, interval, _ = before
    changed, around, _ = after
    apart = changed - value
    low = math.hypot(changed - around[0], interval[1] - value)
    high = math.hypot(around[1] - changed, value - interval[0])
    return apart, (apart - low, apart + high)


def effect(base: Rate | None, other: Rate | None) -> str:
    """Difference of two rates in points with its 95 % interval, as "-12.5 (-21.0 to -3.9)"; "-" where one is None."""
    found = change(base, other)
    if found is None:
        return "-"
    apart, (low, high) = found
    return f"{100 * apart:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
