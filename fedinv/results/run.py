"""results.json: the run's outcome as typed values; its JSON Schema is published from here."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Record):
    """A measured share with what it was measured on."""

    value: Annotated[float, Field(ge=0, le=1)]
    count: int
    """Fields or records that the share is of."""
    ci95: Interval
    prior: Annotated[float, Field(ge=0, le=1)]
    """The same judge on the best guess without any update."""


class Mean(_Record):
    """A measured mean with what it was measured on."""

    value: float
    count: int
    """Records."""
    ci95: Interval
    prior: float
    """The same judge on the best guess without any update."""


class Images(_Record):
    """How like the true images the claimed ones are; the guess stands in where nothing was claimed."""

    psnr: Mean
    """Peak signal-to-noise ratio, decibels of the pixels' range, at most 100."""
    ssim: Mean | None
    """Structural similarity (Wang et al. 2004, Gaussian window of 11 x 11, borders reflected), -1 to 1; None for images
    too small for the window, below 6 x 6."""


class CalibrationBin(_Record):
    """The claims whose confidence lies in [low, high), the last bin's at 1 too."""

    low: float
    high: float
    claimed_mean: float
    """Their mean confidence."""
    right: float
    """Share of them that were recovered; a claim that stands for no true record is wrong."""
    count: int
    ci95: Interval
    """Of the share right."""


class Calibration(_Record):
    """An attack's confidence in its claims against the truth, over all its claims."""

    bins: list[CalibrationBin]
    """Of ten equal steps, those that hold claims."""
    expected_calibration_error: Annotated[float, Field(ge=0, le=1)]
    """Mean distance of a bin's confidence from its share right, weighted by claims: 0 is honest."""
    brier: Annotated[float, Field(ge=0, le=1)]
    """Mean squared distance of a claim's confidence from 1 where it is right, from 0 where it is not."""


class Control(_Record):
    """What an attack gets from the same federation without defenses: a defense is believed only if this leaks."""

    field_accuracy: Rate
    recovered: Rate


class AttackResult(_Record):
    """One attack on all its observations, judged."""

    kind: str
    variant: Literal["static", "adaptive"]
    """static: not told of the defenses; adaptive: told, and using it."""
    target: Literal["client", "sum"]
    """Whether single clients' updates were attacked, or the sum that secure aggregation gives."""
    parameters: dict[str, Any]
    observations: int
    records: int
    """True records behind the observations."""
    claimed: int
    """Records that the attack claimed."""
    seconds: float
    field_accuracy: Rate
    recovered: Rate
    exact: Rate
    images: Images | None = None
    """None where the records are no images, or where there were none."""
    reidentified: Rate | None = None
    """Records traced back to the one named person among all; None where nobody has a name."""
    calibration: Calibration | None = None
    """None where nothing was claimed."""
    chance: float | None = None
    """Share that a random choice among all people would name right."""
    undefended: Control | None = None
    """The same attack on the same federation without defenses; None where the scenario has none."""
    mismatch: float | None = None
    """Mean relative distance between the updates and their re-computation from the claims."""
    notes: list[str] = []
    """What the attack said of itself, each once."""


class Measure(_Record):
    """One thing that an inference is measured by, beside a guess that saw no update and no model."""

    name: str
    """In words, such as "right value" or "TPR at 1 % FPR"."""
    value: float
    count: int
    """People, records or trials that it is of."""
    ci95: Interval
    prior: float
    share: bool = True
    """Whether it is a share of `count`; else a number in the unit that its name says."""
    lower_leaks: bool = False
    """Whether lower values leak more, as for a distance."""
    bound: float | None = None
    """What theory says it cannot exceed under the differential privacy that was guaranteed."""


class Curve(_Record):
    """A receiver operating characteristic: false positives against true ones, no further left than counts allow."""

    false_positives: list[float]
    true_positives: list[float]
    positives: int
    negatives: int


class Pair(_Record):
    """A true image beside one that was made of it."""

    caption: str
    shape: tuple[int, int, int]
    """Channels, down, across."""
    true: list[float]
    """Values of all pixels between 0 and 1, channel by channel."""
    claimed: list[float]


class Exhibit(_Record):
    """A few of the inferences beside the truth, to be looked at: a table, or pairs of images."""

    title: str
    columns: list[str] = []
    rows: list[list[str]] = []
    right: list[bool | None] = []
    """By row, where a row is right or wrong."""
    images: list[Pair] = []


class InferenceResult(_Record):
    """One attack that tells something else than single records' fields, judged."""

    kind: str
    variant: Literal["static", "adaptive"]
    target: Literal["client", "sum", "model"]
    asks: str
    parameters: dict[str, Any]
    observations: int
    answered: int
    """Observations about which the attack had an answer."""
    seconds: float
    says: str
    """What was inferred, beside the guess, in the words of a sentence."""
    measures: list[Measure]
    undefended: list[Measure] | None = None
    """The same on the same federation without defenses; None where the scenario has none."""
    curve: Curve | None = None
    exhibits: list[Exhibit] = []
    notes: list[str] = []


class LeftOutClient(_Record):
    """A reply that was not used."""

    round: int
    client: int
    reason: str


class FederationResult(_Record):
    """What the training took."""

    clients: int
    rounds: int
    parameters: int
    bytes_up: int
    seconds: float
    records: int
    """Records that all clients hold together."""
    left_out: list[LeftOutClient] = []
    trained: str = ""
    """In what way, where the engine has several."""


class Undefended(_Record):
    """The same federation without defenses."""

    value: float
    ci95: Interval


class Utility(_Record):
    """What the trained model is good for, on records that no client holds."""

    metric: Literal["auc", "r2"]
    """Area under the ROC curve of classes, or the share of a number's variance that is explained."""
    value: float
    ci95: Interval
    count: int
    undefended: Undefended | None = None


class Privacy(_Record):
    """What the ledger claims over all rounds: the client that spent most."""

    unit: Literal["example", "client"] | None
    epsilon: float | None
    delta: float | None
    accountant: str | None
    neighbors: str | None = None
    against_server: bool = True
    """Whether it holds against the server, or only against those who see nothing but the models."""
    lower_bounds: dict[str, float] = {}
    note: str


class Results(_Record):
    """The whole outcome of a run."""

    scenario: str
    engine: str
    seed: int
    versions: dict[str, str]
    federation: FederationResult
    utility: Utility
    privacy: Privacy
    attacks: list[AttackResult]
    inferences: list[InferenceResult] = []
    """What attacks told that is no record's fields: attributes, membership, classes, labels, properties."""
    notes: list[str] = []
    """What a reader must know of the data."""
    headline: str
    """The verdict in one sentence: the worst case over attacks."""
