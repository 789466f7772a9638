"""duel.json as typed values: what detectors see of each deviation, what it gets, and what is left past them."""

from pydantic import BaseModel, ConfigDict

from fedinv.results.run import Interval, Measure, Rate


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_Record):
    """A share of messages, with its interval."""

    value: float
    """Share, 0 to 1."""
    count: int
    """Messages that were looked at."""
    ci95: Interval
    """Interval (95 %) of the share (Clopper and Pearson), which takes messages for independent."""


class Seen(_Record):
    """What one detector, or the best combination, sees of one deviation."""

    detector: str
    """Kind of the detector, or "best combination"."""
    deviation: str
    """Deviation in short syntax."""
    at_1: Share | None
    """Share of its messages that are flagged at a false-alarm rate of 1 %; None where too few honest messages set that
    threshold."""
    at_01: Share | None
    """Share of its messages that are flagged at a false-alarm rate of 0.1 %; None where too few honest messages set
    that threshold."""
    auc: float | None
    """Area under the ROC curve against honest messages, 0.5 for chance; None for a combination."""


class Alarms(_Record):
    """A detector's thresholds, and its alarms on honest messages of other seeds than those that set them."""

    detector: str
    """Kind of the detector, or "best combination"."""
    threshold_1: float | None
    """Score above which weights are flagged at 1 % false alarms, by the spread between honest trainings where there are
    five or more; None of a combination, or of too few messages."""
    threshold_01: float | None
    """Score above which weights are flagged at 0.1 % false alarms, likewise; None of a combination, or of too few
    messages."""
    at_1: Share | None
    """Share of honest messages flagged at the first threshold."""
    at_01: Share | None
    """Share of honest messages flagged at the second threshold."""


class Member(_Record):
    """A detector of the best combination."""

    detector: str
    """Kind of the detector."""
    threshold: float
    """Score above which weights are flagged."""


class Combination(_Record):
    """Detectors of which any one flags a message, with thresholds set together."""

    rate: float
    """False-alarm rate for which it was chosen, 0.01 or 0.001."""
    members: list[Member]
    """Detectors, each with its threshold."""


class Opponent(_Record):
    """What one deviation gets, whoever vets."""

    deviation: str
    """Deviation in short syntax."""
    seeds: list[int]
    """Seeds of its runs."""
    messages: int
    """Messages with its weights that clients looked at."""
    recovered: Rate | None
    """Share of records with every field right, by the run's judge; None for a deviation that asks another question."""
    measure: Measure | None
    """First measure of the answer to another question; None for a deviation that reads records."""
    seconds: float
    """Duration of its read-out in one run, seconds."""
    notes: list[str]
    """Remarks of the read-out, each once."""


class Evasion(_Record):
    """What a deviation gets that knows the detectors and does less than it could."""

    deviation: str
    """Deviation in short syntax, without what it changes to evade."""
    how: str
    """Changed setting, such as "units=0.05"; "round 1" where the server deviates before clients can compare."""
    recovered: Rate
    """Share of records with every field right."""
    flagged: Share
    """Share of its messages that the best combination flags at 1 % false alarms."""
    past: float
    """Share of records that it gets where clients refuse what they flag: those recovered times those not flagged."""
    plain: bool
    """True: the deviation as it is, which evades nothing."""
    honest: bool
    """True: the weights are the model's own, which shows what the same read-out gets without any deviation."""


class Duel(_Record):
    """The content of duel.json: deviations against detectors, and what adaptive deviations get past them."""

    scenario: str
    """Name of the scenario."""
    threshold_seeds: list[int]
    """Seeds whose honest messages set the thresholds, and whose crafted ones chose the combination."""
    seeds: list[int]
    """Other seeds, on which all shares are reported."""
    honest: tuple[int, int]
    """Honest messages, weights sent to a client in a round, of the seeds of thresholds, and of those reported."""
    models: tuple[int, int]
    """Honest models, one a round and seed, behind these messages: clients of a round are sent the same, so that
    detectors that look at weights alone have as many scores."""
    detectors: list[str]
    """Kinds of the detectors."""
    deviations: list[str]
    """Deviations that were tried, in short syntax."""
    seen: list[Seen]
    """What each detector, and the best combination, sees of each deviation."""
    alarms: list[Alarms]
    """Thresholds and false alarms of each detector and of the best combination."""
    combinations: list[Combination]
    """The best combination at 1 % and, where there are enough honest messages, at 0.1 % false alarms."""
    opponents: list[Opponent]
    """What each deviation gets, whoever vets."""
    evasions: list[Evasion]
    """What adaptive deviations get past the best combination at 1 % false alarms."""
    not_tried: dict[str, str]
    """Reason, by deviation or detector, for those that do not fit the scenario."""
    failed: dict[str, str]
    """Reason, by name of the run, for those that failed."""
    recommendation: str
    """What to take, what it does not hold off, in sentences."""


COMBINED = "best combination"
"""Name of the line of all detectors that are best together."""
