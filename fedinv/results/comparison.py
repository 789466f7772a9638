"""comparison.json as typed values: what each stack of defenses lets through under each attack, and what it costs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from fedinv.results.run import Interval, Measure, Rate, Results

Cells = dict[tuple[str, int], Results | str]
"""By stack and seed: its results, or why there are none."""
Variant = Literal["static", "adaptive"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DefenseLeak(_Record):
    """What one attack in one variant got past one stack of defenses, over all seeds."""

    attack: str
    variant: Variant
    leakage: float
    """Of what a guesser gets wrong the share that the attacker gets right: 0 is a guess, 1 is everything."""
    ci95: Interval
    recovered: Rate | None
    """Records with every field right; None for an attack that does not rebuild records."""
    fields: Rate | None
    """Fields right."""
    measure: Measure | None = None
    """What another attack is measured by; the mean over the seeds."""
    seconds: float
    """Of one run's attack."""
    verdict: Literal["leaks", "not measurable", "attack too weak"]
    """"attack too weak": it gets nothing without any defense either, so nothing is known of this one."""


class Cost(_Record):
    """A mean over the seeds with its 95 % interval (Student's); a single seed has none."""

    value: float
    ci95: Interval | None


class Row(_Record):
    """One stack of defenses."""

    defenses: str
    runs: list[str]
    """The folders of its runs, one a seed."""
    leaks: list[DefenseLeak]
    utility: Cost
    lost: Cost
    """Of the model's metric, against the same seed without defenses."""
    epsilon: float | None
    """The largest over the seeds; None without a guarantee."""
    unit: str | None
    against_server: bool
    bytes_up: float
    bytes_ratio: float
    """To the bytes without defenses."""
    seconds: float
    """Of training."""
    seconds_ratio: float
    failed: list[str]
    """Why seeds are missing."""

    @property
    def worst(self) -> DefenseLeak | None:
        """The attack, static or adaptive, that got most, of those that are strong enough to tell."""
        strong = [leak for leak in self.leaks if leak.verdict != "attack too weak"]
        return max(strong, key=lambda leak: leak.leakage, default=None)

    @property
    def guaranteed(self) -> bool:
        """Whether differential privacy holds against the server."""
        return self.epsilon is not None and self.against_server


class Domination(_Record):
    """A stack that no one should take, and the one that is better."""

    defenses: str
    by: str
    says: str


class Comparison(_Record):
    """comparison.json: the whole matrix and what follows from it."""

    scenario: str
    seeds: list[int]
    metric: str
    attacks: list[str]
    rows: list[Row]
    """Without defenses first."""
    failed: dict[str, str]
    """Stacks of which no seed ran, and why."""
    dominated: list[Domination]
    limit: float
    """Of the metric, what may be lost at most."""
    recommendation: str


NONE = "none"
