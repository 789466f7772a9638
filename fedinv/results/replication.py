"""replication.json as typed values: the means of a scenario's runs with several seeds, and their deviations."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from fedinv.results.run import Interval


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Record):
    """One measure over the seeds at which it could be measured."""

    mean: float
    """Mean over the seeds."""
    sd: float | None
    """Standard deviation from one seed to another (n - 1 in the denominator); None for a single seed."""
    ci95: Interval | None
    """Interval (95 %, Student's t) of the mean, which holds the luck of data, training and attack; None for a single
    seed. It may exceed the measure's range."""
    low: float
    """Smallest value at any seed."""
    high: float
    """Largest value at any seed."""
    values: list[float | None]
    """Value at each seed, in the order of the seeds; None where the measure could not be taken."""

    @classmethod
    def over(cls, values: Sequence[float | None]) -> Self | None:
        """The spread of values by seed, None among them where nothing was measured; None where nothing was at all."""
        there = [value for value in values if value is not None]
        if not there:
            return None
        sd = interval = None
        mean = fmean(there)
        if len(there) > 1:
            from scipy.special import stdtrit

            sd = stdev(there)
            half = float(stdtrit(len(there) - 1, 0.975)) * sd / math.sqrt(len(there))
            interval = mean - half, mean + half
        return cls(mean=mean, sd=sd, ci95=interval, low=min(there), high=max(there), values=list(values))


class ReplicatedMeasure(_Record):
    """One measure of one attack over the seeds, with a guess's beside it."""

    attack: str
    """Kind of the attack, with its settings where there are several of the kind."""
    variant: Literal["static", "adaptive"]
    """Attacker's knowledge of the defenses: "static" has none, "adaptive" knows and uses them."""
    target: Literal["client", "sum", "model"]
    """Attacked data: single clients' updates, the sum that secure aggregation reveals, or the trained model."""
    measure: str
    """Name of the measure, such as "recovered" or "TPR at 1 % FPR"."""
    share: bool
    """True: the measure is a share, 0 to 1; False: a number in the unit that the name gives."""
    value: Spread
    """Measure of the attack."""
    guess: Spread
    """The same measure of the best guess without update and model."""
    undefended: Spread | None
    """The same measure of the same attack without defenses; None where the scenario has none, or it is not taken."""
    count: int
    """Number of people, records, fields or trials that were judged, over all seeds."""


class Replication(_Record):
    """The content of replication.json: a scenario's runs with several seeds."""

    scenario: str
    """Name of the scenario."""
    seeds: list[int]
    """Seeds whose runs succeeded; the values of every spread follow their order."""
    runs: list[str]
    """Folders of these runs, relative to the replication's."""
    metric: str
    """Metric of utility in words: AUC or R²."""
    utility: Spread | None
    """Model's metric on held-out records; None where no seed could measure it."""
    undefended: Spread | None
    """The same without defenses; None where the scenario has none."""
    lost: Spread | None
    """Difference of the two at the same seed; None where the scenario has no defenses."""
    epsilon: float | None
    """Largest epsilon over the seeds; None where any of them has no guarantee."""
    unit: str | None
    """Unit that epsilon protects: "example" or "client"; None without a guarantee."""
    measures: list[ReplicatedMeasure]
    """Every measure of every attack."""
    failed: dict[int, str]
    """Reason by seed for those of which the run failed."""
    says: str
    """The outcome in one sentence."""
