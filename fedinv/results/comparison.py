"""comparison.json as typed values: the leakage of each set of defenses under each attack, and its costs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from fedinv.results.run import ClientRate, Interval, Measure, Rate, Results

Cells = dict[tuple[str, int], Results | str]
"""Results of each run by set of defenses and seed, or the reason why it failed."""
Variant = Literal["static", "adaptive"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DefenseLeak(_Record):
    """Leakage of one attack in one variant under one set of defenses, over all seeds."""

    attack: str
    """Kind of the attack."""
    variant: Variant
    """Attacker's knowledge of the defenses: "static" has none, "adaptive" knows and uses them."""
    leakage: float
    """Share of what a guess gets wrong that the attacker gets right: 0 is no better than a guess, 1 is everything."""
    ci95: Interval
    """Interval (95 %) of the leakage."""
    recovered: Rate | None
    """Share of records with every field right; None for an attack that does not reconstruct records."""
    fields: Rate | None
    """Share of right fields; None for an attack that does not reconstruct records."""
    measure: Measure | None = None
    """First measure of an attack that does not reconstruct records, averaged over the seeds; None for others."""
    seconds: float
    """Duration of the attack in one run, seconds, averaged over the seeds."""
    unfinished: list[str] = []
    """Limits of the attack's own that ended it before it was done in some run: beyond them more may leak."""
    verdict: Literal["leaks", "not measurable", "attack too weak"]
    """Meaning of the leakage. "leaks" and "not measurable": its interval lies above 0, or not. "attack too weak": the
    attack gains nothing without defenses either, so that it says nothing about this one."""


class Worst(_Record):
    """The largest leakage of a set of defenses over all attacks and variants that were run on it and are not too weak.

    Its interval is that of the maximum over them, so that trying many attacks does not by itself make a leak.
    """

    attack: str
    """Attack with the largest leakage."""
    variant: Variant
    """Variant of that attack."""
    leakage: float
    """Leakage of that attack, at least 0: what lies below a guess reveals nothing."""
    ci95: Interval
    """Interval (95 %) of the largest leakage, corrected for the number of attacks."""
    verdict: Literal["leaks", "not measurable"]
    """Meaning of the leakage: "leaks" where the interval lies above 0."""
    attacks: list[str]
    """Attacks among which it is the largest, each with its variant, as "exact (adaptive)"."""
    client: ClientRate | None = None
    """Client that the attack hits worst in any seed; None where nothing is counted by client."""


class Cost(_Record):
    """A mean over the seeds with its 95 % interval."""

    value: float | None
    """Mean over the seeds; None where any of them cannot be measured."""
    ci95: Interval | None
    """Interval (95 %) of the mean (Student's t); None for a single seed, and where the mean is not measurable."""


class Row(_Record):
    """Leaks and costs of one set of defenses."""

    defenses: str
    """Set of defenses in short syntax; "none" for the row without defenses."""
    runs: list[str]
    """Folders of the runs, one per seed."""
    leaks: list[DefenseLeak]
    """Leak under each attack and variant."""
    utility: Cost
    """Model's metric on held-out records."""
    lost: Cost
    """Loss of the model's metric against the same seed without defenses."""
    epsilon: float | None
    """Largest epsilon over the seeds; None where any of them has no guarantee."""
    exceeds: float | None = None
    """Number that epsilon exceeds for some seed, 10^6, as the noise is too weak for any guarantee; else None."""
    unit: str | None
    """Unit that epsilon protects: "example" or "client"; None without a guarantee."""
    against_server: bool
    """True: the guarantee holds against the server; False: only against those who see the models alone."""
    bytes_up: float
    """Bytes that all clients sent to the server, averaged over the seeds."""
    bytes_ratio: float
    """Bytes sent, as a multiple of those without defenses."""
    seconds: float
    """Duration of training in seconds, averaged over the seeds."""
    seconds_ratio: float
    """Duration of training, as a multiple of that without defenses."""
    failed: list[str]
    """Reasons why seeds are missing."""
    worst: Worst | None = None
    """Largest leakage over all attacks and variants; None where all are too weak to tell."""
    not_adapted: dict[str, str] = {}
    """Reason, by attack, why it was not run as one who knows these defenses."""

    @property
    def unfinished(self) -> dict[str, list[str]]:
        """Limits of their own that ended attacks before they were done, by attack with its variant."""
        return {f"{leak.attack} ({leak.variant})": leak.unfinished for leak in self.leaks if leak.unfinished}

    @property
    def guaranteed(self) -> bool:
        """Whether differential privacy is guaranteed against the server."""
        return self.epsilon is not None and self.against_server


class Domination(_Record):
    """A dominated set of defenses, and the better one."""

    defenses: str
    """Dominated set of defenses."""
    by: str
    """Set of defenses that is better."""
    says: str
    """Reason in one sentence."""


class Swept(_Record):
    """The values of the swept keys in one set of defenses."""

    defenses: str
    """Set of defenses as its row names it."""
    of: str
    """Set of defenses in which the keys were changed: one curve of a plot."""
    values: dict[str, bool | int | float | str]
    """Value of each swept key."""


class Comparison(_Record):
    """The content of comparison.json: all sets of defenses under all attacks, and a recommendation."""

    scenario: str
    """Name of the scenario."""
    seeds: list[int]
    """Seeds of the runs of each set of defenses."""
    metric: str
    """Metric of utility: "auc" or "r2"."""
    attacks: list[str]
    """Kinds of the attacks that were run."""
    not_tried: dict[str, str] = {}
    """Reason, by kind, for each attack that was not run: nothing is known of what it would reveal."""
    rows: list[Row]
    """One row per set of defenses, that without defenses first."""
    failed: dict[str, str]
    """Reasons by set of defenses for those of which no run succeeded."""
    dominated: list[Domination]
    """Dominated sets of defenses."""
    limit: float
    """Largest loss of the metric that the recommendation accepts."""
    swept: list[Swept] = []
    """Values of the swept keys in each row that a sweep made; empty without a sweep."""
    recommendation: str
    """Recommended set of defenses, in sentences."""

    @property
    def telling(self) -> list[str]:
        """Kinds of the attacks that were strong enough somewhere; all of them where none was."""
        strong = {leak.attack for row in self.rows for leak in row.leaks if leak.verdict != "attack too weak"}
        return [attack for attack in self.attacks if attack in strong] or self.attacks

    @property
    def weak(self) -> list[str]:
        """The other ones: they gain nothing without defenses either, and say nothing of any."""
        telling = self.telling
        return [attack for attack in self.attacks if attack not in telling]


NONE = "none"
"""Name of the set without defenses."""
