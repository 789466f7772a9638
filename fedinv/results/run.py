"""results.json: the run's outcome as typed values; its JSON Schema is published from here."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Interval = tuple[float, float]
"""Lower and upper end of a confidence interval."""
Numbers = tuple[float, Interval, float]
"""Value, 95 % interval and prior of what could be measured."""


LARGEST = 1e18
"""Number in results.json beyond which a file is damaged: no run counts, lasts or sends as much."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _of_a_size(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not abs(number) <= LARGEST:
                    raise ValueError(f"{name} is beyond {LARGEST:g}")
        return self


class Rate(_Record):
    """A measured share with its interval and prior; all three are None where there was nothing to judge."""

    value: Annotated[float, Field(ge=0, le=1)] | None
    """Share that is right, 0 to 1; None where nothing was judged."""
    count: int
    """Number of fields or records that were judged."""
    ci95: Interval | None
    """Confidence interval (95 %) of the share; None where nothing was judged."""
    prior: Annotated[float, Field(ge=0, le=1)] | None
    """Share that the best guess without any update gets right, by the same judge; None where nothing was judged."""
    guess: str = ""
    """Name of that guess; empty where several are pooled."""

    @model_validator(mode="before")
    @classmethod
    def _of_nothing(cls, values: Any) -> Any:
        return _of_nothing(values)

    @property
    def numbers(self) -> Numbers | None:
        """Value, interval and prior; None where nothing was judged."""
        return _numbers(self.value, self.ci95, self.prior)


def _of_nothing(values: Any) -> Any:
    """The fields of a rate with None for its numbers where nothing was judged: a share of nothing is not 0."""
    if isinstance(values, dict) and values.get("count") == 0:
        return {**values, "value": None, "ci95": None, "prior": None}
    return values


def _numbers(value: float | None, interval: Interval | None, prior: float | None) -> Numbers | None:
    if value is None or interval is None or prior is None:
        return None
    return value, interval, prior


class Mean(_Record):
    """A measured mean with its interval and prior."""

    value: float
    """Mean over the records."""
    count: int
    """Number of records that were judged."""
    ci95: Interval
    """Confidence interval (95 %) of the mean."""
    prior: float
    """Mean of the best guess without any update, by the same judge."""
    guess: str = ""
    """Name of that guess; empty where several are pooled."""


class Images(_Record):
    """Similarity of the claimed images to the true ones; the guess is judged where nothing was claimed."""

    called: Literal["images", "signals"] = "images"
    """Word for the records: signals are judged as images of one row."""
    psnr: Mean
    """Peak signal-to-noise ratio in decibels of the values' range, at most 100; higher is more similar."""
    ssim: Mean | None
    """Structural similarity (Wang et al. 2004, Gaussian window of 11 x 11, borders reflected), -1 to 1; None for images
    below 6 x 6, which the window does not fit."""


class CalibrationBin(_Record):
    """The claims whose confidence lies in [low, high), the last bin's at 1 too."""

    low: float
    """Lower end of the bin's confidences, inclusive."""
    high: float
    """Upper end of the bin's confidences, exclusive but for 1."""
    claimed_mean: float
    """Mean confidence of the claims, 0 to 1."""
    right: float
    """Share of the claims that are recovered records; a claim that is matched with no true record is wrong."""
    count: int
    """Number of claims."""
    ci95: Interval
    """Confidence interval (95 %) of the share of right claims."""


class Calibration(_Record):
    """An attack's confidence in its claims against the truth, over all its claims."""

    bins: list[CalibrationBin]
    """Bins with claims, of ten bins of equal width."""
    expected_calibration_error: Annotated[float, Field(ge=0, le=1)]
    """Mean distance of a bin's confidence from its share of right claims, weighted by claims; 0 is calibrated."""
    brier: Annotated[float, Field(ge=0, le=1)]
    """Brier score: mean squared distance of a claim's confidence from 1 where it is right, from 0 where it is wrong."""


class Control(_Record):
    """Success of the same attack without defenses: only if this leaks does a lower rate speak for the defense."""

    field_accuracy: Rate
    """Share of right fields."""
    recovered: Rate
    """Share of records with every field right."""


class ClientRate(_Record):
    """Counts of one attack on one watched client, over all watched rounds."""

    client: int
    """Number of the client."""
    records: int
    """Number of different people behind the client's updates."""
    recovered: int
    """Number of those of which every field was claimed right."""
    fields: int
    """Number of fields of all those records."""
    right: float
    """Number of right fields, the best guess standing in where nothing was claimed."""
    guessed: float
    """Number of fields that the best guess has right, expected where it is random."""


class AttackResult(_Record):
    """Results of one reconstruction attack over all its observations."""

    kind: str
    """Kind of the attack."""
    variant: Literal["static", "adaptive"]
    """Attacker's knowledge of the defenses: "static" has none, "adaptive" knows and uses them."""
    target: Literal["client", "sum"]
    """Attacked updates: those of single clients, or the sum that secure aggregation reveals."""
    parameters: dict[str, Any]
    """Parameters of the attack, as in a scenario."""
    observations: int
    """Number of attacked updates or sums."""
    records: int
    """Number of true records behind the observations."""
    claimed: int
    """Number of records that the attack claimed."""
    verified: int | None = None
    """Number of those that the attacker itself can tell to be right, without the truth: their claim, trained on again,
    explains the update, or they passed the attack's own check. The others are unverified. None in results of earlier
    versions."""
    seconds: float
    """Duration of the attack in seconds, over all observations."""
    field_accuracy: Rate
    """Share of right fields of all true records; the guess is judged where nothing was claimed."""
    recovered: Rate
    """Share of people of whom every field was claimed right, within the tolerance, from any of their records."""
    exact: Rate
    """Share of people of whom every field was claimed right to 0.001 standard deviations."""
    owned: int | None = None
    """Number of recovered records that the attack also says to belong to the client that holds them; None where it does
    not tell whose they are."""
    clients: list[ClientRate] = []
    """Counts by client, in order of their numbers, as a rate over all hides the client that is worst off; empty for
    sums."""
    worst: ClientRate | None = None
    """Client of which the largest share of records was recovered, among equals of fields, of those of a sum too; None
    without records."""
    images: Images | None = None
    """Similarity of images; None for tables, and where there were no records."""

    @property
    def element(self) -> str:
        """Word for one of the values of a record that are judged one by one."""
        return "field" if self.images is None else "pixel" if self.images.called == "images" else "sample"

    reidentified: Rate | None = None
    """Expected share of people whose claim leads to them in the register, by its columns alone and picking at random
    among those who are as near; None where no column is known elsewhere."""
    calibration: Calibration | None = None
    """Calibration of the attack's confidence; None where nothing was claimed."""
    chance: float | None = None
    """Share that picking a person of the register at random would re-identify; None without a register."""
    outside_register: str | None = None
    """Outside register in which claims are looked up, in words: its people, and the columns that it has of them."""
    undefended: Control | None = None
    """Success of the attack on the same federation without defenses; None where the scenario has none."""
    mismatch: float | None = None
    """Mean relative distance between the updates and those recomputed from the claims, 0 to 1; None if not computed."""
    notes: list[str] = []
    """Remarks of the attack, each once: why records are missing, which knowledge was lacking."""
    unfinished: list[str] = []
    """Limits of the attack's own, as of time or of records, that ended it before it was done on some observation;
    beyond them it may find more."""


class Measure(_Record):
    """One measure of an inference, with the value of a guess that saw neither update nor model.

    Value, interval and prior are None where there was nobody to judge it on.
    """

    name: str
    """Name of the measure in words, such as "right value" or "TPR at 1 % FPR"."""
    value: float | None
    """Measured value: a share, or a number in the unit that the name gives; None where nobody was judged."""
    count: int
    """Number of people, records or trials that were judged."""
    ci95: Interval | None
    """Confidence interval (95 %) of the value; None where nobody was judged."""
    prior: float | None
    """Value of the best guess without update and model; None where nobody was judged."""
    guess: str = ""
    """Name of that guess; empty where there is only one."""
    share: bool = True
    """True: the value is a share, 0 to 1; False: a number in the unit that the name gives."""
    lower_leaks: bool = False
    """True: lower values leak more, as for an error; False: higher values leak more."""
    bound: float | None = None
    """Upper bound on the value by the guaranteed differential privacy; None where there is none."""

    @model_validator(mode="before")
    @classmethod
    def _of_nothing(cls, values: Any) -> Any:
        return _of_nothing(values)

    @property
    def numbers(self) -> Numbers | None:
        """Value, interval and prior; None where nobody was judged."""
        return _numbers(self.value, self.ci95, self.prior)


class Curve(_Record):
    """A receiver operating characteristic, from the lowest false-positive rate that the negatives support."""

    false_positives: list[float]
    """False-positive rate of each point, ascending."""
    true_positives: list[float]
    """True-positive rate of each point."""
    positives: int
    """Number of members."""
    negatives: int
    """Number of others."""


class Pair(_Record):
    """A true image and the claimed one."""

    caption: str
    """Caption of the pair."""
    shape: tuple[int, int, int]
    """Shape of both images: channels, height, width."""
    true: list[float]
    """Pixels of the true image, 0 to 1, channel by channel."""
    claimed: list[float]
    """Pixels of the claimed image, 0 to 1, channel by channel."""


class Exhibit(_Record):
    """Examples of inferences beside the truth, for readers: a table, or pairs of images."""

    title: str
    """Heading of the examples."""
    columns: list[str] = []
    """Headings of the table's columns."""
    rows: list[list[str]] = []
    """Cells of the table, row by row."""
    right: list[bool | None] = []
    """Whether each row is right; None for a row that is neither."""
    images: list[Pair] = []
    """Pairs of a true and a claimed image."""


class InferenceResult(_Record):
    """Results of one attack that infers something else than records, such as membership or an attribute."""

    kind: str
    """Kind of the attack."""
    variant: Literal["static", "adaptive"]
    """Attacker's knowledge of the defenses: "static" has none, "adaptive" knows and uses them."""
    target: Literal["client", "sum", "model"]
    """Attacked data: single clients' updates, the sum that secure aggregation reveals, or the trained model."""
    asks: str
    """Question that the attack answers, such as "membership"."""
    parameters: dict[str, Any]
    """Parameters of the attack, as in a scenario."""
    observations: int
    """Number of attacked updates, sums or models."""
    answered: int
    """Number of observations for which the attack gave an answer."""
    seconds: float
    """Duration of the attack in seconds, over all observations."""
    says: str
    """Inference and prior in words: the end of a sentence that begins with the attack."""
    measures: list[Measure]
    """Measures of the inference, the most revealing first."""
    undefended: list[Measure] | None = None
    """Measures of the attack on the same federation without defenses; None where the scenario has none."""
    curve: Curve | None = None
    """ROC curve of a membership test; None for others."""
    exhibits: list[Exhibit] = []
    """Examples for readers."""
    notes: list[str] = []
    """Remarks of the attack, each once."""


class LeftOutClient(_Record):
    """A client's reply that was left out of a round."""

    round: int
    """Round of the reply, counted from 1."""
    client: int
    """Number of the client."""
    reason: str
    """Reason why the reply was left out."""


class VettedRound(_Record):
    """What one detector of the clients found in a round."""

    detector: str
    """Kind of the detector."""
    action: str
    """What a client does with weights that it flags: report, refuse, clip or drop-rows."""
    round: int
    """Round, counted from 1."""
    looked: int
    """Clients whose detector had what it looks at."""
    flagged: int
    """Clients whose detector flagged the weights."""
    highest: float
    """Largest score of any client; above the detector's threshold where it was flagged."""


class FederationResult(_Record):
    """Size and costs of the training."""

    clients: int
    """Number of clients."""
    rounds: int
    """Number of rounds."""
    parameters: int
    """Number of the model's parameters."""
    bytes_up: int
    """Bytes that all clients sent to the server over all rounds."""
    seconds: float
    """Duration of the training in seconds."""
    records: int
    """Number of records that all clients hold together."""
    left_out: list[LeftOutClient] = []
    """Replies that were left out, by round."""
    vetting: list[VettedRound] = []
    """What the clients' detectors found of the weights that they were sent, by detector and round; those without
    anything to look at are left out."""
    trained: str = ""
    """Way of local training, where the engine has several; else empty."""


class Undefended(_Record):
    """Utility of the same federation without defenses."""

    value: float | None
    """Metric of the model; None where it cannot be measured."""
    ci95: Interval | None
    """Confidence interval (95 %) of the metric; None where it cannot be measured."""


class Utility(_Record):
    """Utility of the trained model, on records that no client holds."""

    metric: Literal["auc", "r2"]
    """Metric: area under the ROC curve for classes ("auc"), explained share of variance for a number ("r2")."""
    value: float | None
    """Metric of the model; 1 is best, 0.5 (auc) or 0 (r2) is no better than chance or the mean. None where it cannot be
    measured, as the held-out records are all of one class, or their labels are equal."""
    ci95: Interval | None
    """Confidence interval (95 %) of the metric over held-out records, of this one training: other seeds vary more, see
    `fedinv run --seeds`. None where it cannot be measured."""
    count: int
    """Number of held-out records."""
    undefended: Undefended | None = None
    """Utility of the same federation without defenses; None where the scenario has none."""


class Privacy(_Record):
    """Differential-privacy guarantee by the ledgers, of the client that spent most over all rounds."""

    unit: Literal["example", "client"] | None
    """Unit that epsilon protects: one record ("example") or all of a client's; None without a guarantee."""
    epsilon: float | None
    """Epsilon over all rounds, an upper bound; None without a guarantee."""
    delta: float | None
    """Delta of the guarantee, a probability; None without one."""
    accountant: str | None
    """Accountant that composed the rounds: "Gaussian" (the mechanism's curve in closed form), "PLD" (privacy loss
    distributions) or "RDP" (a bound by Renyi divergences); None without a guarantee."""
    neighbors: str | None = None
    """Neighboring relation: "add-or-remove-one" or "replace-one" unit; None without a guarantee."""
    against_server: bool = True
    """True: the guarantee holds against the server; False: only against those who see the models alone."""
    person: float | None = None
    """Epsilon for all rows of one person, where epsilon protects a row and people have several; else None."""
    rows: int = 1
    """Largest number of rows of one person that a client holds."""
    excludes: list[str] = []
    """What the server receives beside the guarantee, which does not cover it: the data dictionary where it was computed
    from the records, and how many records a client has. Empty without a guarantee."""
    exceeds: float | None = None
    """Number that epsilon exceeds, 10^6, where the noise is too weak for any guarantee; then epsilon is None."""
    lower_bounds: dict[str, float] = {}
    """Measured lower bounds on epsilon by method, where the run was audited; else empty."""
    note: str
    """Basis of the guarantee, or the reason why there is none, in words."""


class Results(_Record):
    """The content of results.json: everything that a run found."""

    scenario: str
    """Name of the scenario."""
    engine: str
    """Engine that ran the federation."""
    seed: int
    """Seed from which all randomness is derived."""
    versions: dict[str, str]
    """Versions of fedinv, Python and the main packages, by name."""
    federation: FederationResult
    """Size and costs of the training."""
    utility: Utility
    """Utility of the trained model."""
    privacy: Privacy
    """Differential-privacy guarantee of the run."""
    attacks: list[AttackResult]
    """Results of the attacks that reconstruct records."""
    inferences: list[InferenceResult] = []
    """Results of the attacks that infer attributes, membership, classes, labels or properties."""
    notes: list[str] = []
    """Remarks: missing values that were filled, rows that were dropped, what is sent in the clear."""
    headline: str
    """Verdict in one sentence: the worst case over attacks."""
