"""A site's policy: what a reply may hold, how an update is bounded, and how much of its records may be read off it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
    model_validator,
)

from fedinv.errors import RequestError, nearest
from fedinv.privacy.events import Delta, Epsilon
from fedinv.recording.content import NUMBERS
from fedinv.results.terms import Answer
from fedinv.scenario.mistakes import explain, shown
from fedinv.storage import documents, paths
from fedinv.strict import Strict

Kind = Literal["train", "evaluate", "query"]
"""First part of Flower's message types."""
Number = StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]
"""A finite number that TOML writes as one."""


def _factory(text: str) -> str:
    module, _, name = text.partition(":")
    if not module or not name:
        raise ValueError(f'{shown(text)} names no object, write module:name, as "app.task:Net"')
    return text


Factory = Annotated[str, AfterValidator(_factory)]
"""Name of a Python object, as "app.task:Net"."""


def _dtype(text: str) -> str:
    if text not in NUMBERS:
        raise ValueError(f"{shown(text)} is no type of numbers{nearest(text, NUMBERS)}")
    return text


def _list(value: Any) -> Any:
    """A list of the document as the tuple that is asked for."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping):
        raise ValueError("must be a list of tables, not one: write it between [ and ]")
    if value is not None and not isinstance(value, tuple):
        raise ValueError(f"must be a list, not {shown(value)}: write [{shown(value)}]")
    return value


def _metric(value: Any) -> Any:
    """A metric's table of its short form, which names the type alone."""
    if isinstance(value, str):
        return {"type": value}
    if not isinstance(value, Mapping) and not isinstance(value, BaseModel):
        raise ValueError(
            f'must be "int", "float" or a table, not {shown(value)}: write "float" or {{ type = "float" }}'
        )
    return value


class Table(Strict):
    """A table of the policy whose values are of the very type that is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AllowedArray(Table):
    """An array that a training may send back."""

    name: str = Field(min_length=1)
    """Name of the array in its record, as "layer1.weight"."""
    shape: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_list)]
    """Sides of the array; [] for a single number."""
    dtype: Annotated[str, AfterValidator(_dtype)]
    """Type of its numbers, as "float32"."""


class AllowedMetric(Table):
    """A metric that a reply may hold; numbers alone are."""

    type: Literal["int", "float"]
    """Type of the number: "int" takes whole numbers alone, "float" whole ones too."""
    least: Number | None = None
    """Smallest number that is sent on; no bound without it."""
    most: Number | None = None
    """Largest number that is sent on; no bound without it."""
    items: int = Field(default=1, ge=1)
    """Numbers that it may hold, as one more than 1 allows a list."""
    send: Number | None = None
    """Number that is sent in place of the app's, whatever the app says; the app's without it."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least is {self.least} and most is {self.most}: no number is sent on, swap the two")
        if self.type == "int" and isinstance(self.send, float):
            raise ValueError(f'send is {self.send}, no whole number: write {round(self.send)}, or type = "float"')
        return self


def _counts() -> dict[str, AllowedMetric]:
    """The metrics of an empty policy: the number of examples, which strategies weigh updates by."""
    return {name: AllowedMetric(type="int", least=0) for name in ("num-examples", "num_examples")}


class ReplyRules(Table):
    """Rules on a reply as a whole."""

    messages: Annotated[tuple[Kind, ...], BeforeValidator(_list)] = ("train", "evaluate")
    """Kinds of message that are answered; to all others an error reply goes back."""
    records: int = Field(default=4, ge=0)
    """Records that a reply may hold: arrays, metrics and configurations together."""
    megabytes: float = Field(default=256.0, gt=0, allow_inf_nan=False)
    """Size up to which a reply is read at all, in megabytes of 10^6 bytes."""
    wait_seconds: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    """Seconds that the parts of a reply, once the app has announced it, may take to arrive from the app's process."""
    names: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    """Names of records that are allowed beside "arrays", "metrics", and Flower's own of the older interface."""
    texts: Annotated[tuple[str, ...], BeforeValidator(_list)] = ("", "Success")
    """Texts that may stand in a configuration, letter for letter; numbers in it are metrics."""
    error_texts: bool = False
    """Whether the text of an app's own error is sent on, which may quote records; if not, the server gets its code."""


class ArrayRules(Table):
    """Rules on the arrays that a training sends back."""

    allow: Annotated[tuple[AllowedArray, ...] | None, BeforeValidator(_list)] = None
    """Arrays that may be sent back, some or all of them; without it exactly those of the message, all of them."""


class UpdateRules(Table):
    """Bounds on what an update tells, whatever the app does."""

    sends: Literal["weights", "changes"] = "weights"
    """What the app sends back: its weights, from which those of the message are subtracted, or their changes."""
    clip: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Largest L2 norm of all floating-point changes together; larger ones are scaled down to it. Integers then go back
    as they came, as no noise hides them. Without it nothing is clipped."""
    noise_multiplier: float = Field(default=0.0, ge=0, le=1e4)
    """Standard deviation of the Gaussian noise on each floating-point number, over `clip`; 0 adds none."""
    delta: Delta | None = None
    """Delta at which the log states the epsilon of all noised updates so far; without it none is stated."""
    epsilon: Epsilon | None = None
    """Epsilon beyond which no further update is sent; without it there is no limit."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.noise_multiplier and self.clip is None:
            raise ValueError("noise_multiplier needs clip, the norm that it is a multiple of: write clip = 1.0")
        if self.delta is not None and not self.noise_multiplier:
            raise ValueError("delta states an epsilon, which only noise gives: write noise_multiplier = 1.0 as well")
        if self.epsilon is not None and self.delta is None:
            raise ValueError("epsilon needs the delta at which it is counted: write delta = 1e-5")
        return self


class GateRules(Table):
    """The attack on an update before it leaves."""

    network: Factory
    """What makes the network, as "app.task:Net"; it is imported into this process, so name code that you have read."""
    app: str = "."
    """Folder that the network is imported from, relative to the policy's own folder."""
    example: Factory | None = None
    """A batch of the network's inputs, as "app.task:example"; made-up records without it."""
    limit: float = Field(default=0.0, ge=0, le=1)
    """Largest share of an update's records that may be read off it."""
    seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Seconds of computing that the attacks on one update may take together."""
    knows: Factory | None = None
    """The site's own records as the network's inputs (n, d), as "app.task:records": the attacks then know which inputs
    are categories and the range of numbers, as a server may. Without it they do not."""
    unknown: Answer = "refuse"
    """What is done with an update that no attack here reads, by its network or optimizer: nothing is known of it."""
    unfinished: Answer = "refuse"
    """What is done with an update of which too little was read when the time was over."""
    records: int | None = Field(default=None, ge=1)
    """Records behind an update, where the number that the app reports is not to be believed."""


class Policy(Table):
    """All that a site demands of what leaves it. An empty file is a policy: its defaults are strict."""

    log: str = "site-events.jsonl"
    """File of one line for each message, relative to the policy's own folder."""
    reply: ReplyRules = ReplyRules()
    """Rules on a reply as a whole."""
    arrays: ArrayRules = ArrayRules()
    """Rules on the arrays of an update."""
    metrics: dict[str, Annotated[AllowedMetric, BeforeValidator(_metric)]] = Field(default_factory=_counts)
    """Metrics that a reply may hold, by name; without the table the number of examples alone."""
    update: UpdateRules = UpdateRules()
    """Bounds on what an update tells."""
    gate: GateRules | None = None
    """The attack on an update before it leaves; without the table no update is attacked."""


MISSING = {
    "network": ', write network = "app.task:Net"',
    "name": ', write name = "layer1.weight"',
    "shape": ", write shape = [128, 14]",
    "dtype": ', write dtype = "float32"',
    "type": ', write type = "float"',
}
"""What to write for a key that is missing, by its last part."""


def read(path: Path) -> Policy:
    """Read a site's policy. Raises RequestError, one line, that names the file, the key, and what to write."""
    document = documents.read(paths.given(str(path)))
    try:
        documents.check_values(document)
        found = parse(document)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    return found


def parse(document: Mapping[str, Any]) -> Policy:
    """Check a policy's document. Raises RequestError, one line, that names the key and what to write."""
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        said = explain(error, Policy, document)
        key = said.partition(": is missing")[0].rpartition(".")[2]
        raise RequestError(said + MISSING.get(key, "") if ": is missing" in said else said) from None


def finite(number: float) -> bool:
    """Whether a metric's number is neither infinite nor undefined."""
    return isinstance(number, int) or math.isfinite(number)
