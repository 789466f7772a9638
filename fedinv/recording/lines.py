"""The lines of a recording's messages.jsonl: a first one that says what it is, then one a message and one a reply."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, TypeAdapter

from fedinv.strict import Strict

Side = Literal["server", "client", "files"]
"""Where a recording was made: around the server's Grid, by a client's mod, or from files that were imported."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Line(Strict):
    """A line of a recording; numbers that are not finite are kept, as a loss may be one."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Bytes(Line):
    """Bytes in a configuration, such as a masked vector of SecAgg+: kept by length and digest alone."""

    items: int = Field(ge=0)
    """Number of byte strings, 1 for one that is no list."""
    bytes: int = Field(ge=0)
    """Length of all of them together."""
    sha256: Digest
    """Digest of all of them, one after the other."""


Plain = StrictBool | StrictInt | StrictFloat | StrictStr
Value = Plain | Bytes | tuple[Plain, ...]
"""A value of a Flower configuration or metric."""
Values = dict[str, Value]


class Content(Line):
    """The records of a message by name."""

    arrays: dict[str, Digest] = Field(default_factory=dict)
    """Digest of each record of arrays, which is also the name of its file."""
    configs: dict[str, Values] = Field(default_factory=dict)
    """Values of each configuration."""
    metrics: dict[str, Values] = Field(default_factory=dict)
    """Values of each record of metrics, such as num-examples."""


class Failure(Line):
    """An error reply."""

    code: int
    """Number of Flower's or fedinv's error code."""
    reason: str
    """Text of the error, its first 2,000 characters."""


class Opened(Line):
    """The first line of a recording."""

    event: Literal["opened"] = "opened"
    format: Literal[1] = 1
    """Version of the lines below."""
    side: Side
    """Where the recording was made."""
    fedinv: str
    """Version of fedinv that wrote it."""
    process: int
    """Id of the process that began it in the operating system."""


class Sent(Line):
    """A message to a client."""

    event: Literal["sent"] = "sent"
    key: str
    """Name of the message in this recording, which its reply repeats."""
    run: int
    """Number of Flower's run."""
    round: int
    """Round, from 1: the one that the message names, else counted; 0 for what Flower asks before the first one."""
    node: int
    """Id of the client's node."""
    partition: int | str | None = None
    """The client's partition-id, which the client knows and the server is never given."""
    kind: str
    """Flower's message type, such as "train" or "train.probe"."""
    content: Content
    """What was sent."""


class Received(Line):
    """The reply to a message."""

    event: Literal["received"] = "received"
    key: str
    """Name of the message that it answers."""
    content: Content | None = None
    """What came back; None where it was an error."""
    error: Failure | None = None
    """The error that came back; None where it was content."""


AnyLine = Annotated[Opened | Sent | Received, Field(discriminator="event")]
LINE: TypeAdapter[Opened | Sent | Received] = TypeAdapter(AnyLine)
"""Reads any line from JSON."""
COUNTS = ("num-examples", "num_examples")
"""Names under which clients report a number of examples."""


def reported_records(records: Iterable[Mapping[str, object]]) -> int | None:
    """Number of examples that a client reports in records of metrics or configurations; None where it reports none."""
    for values in records:
        for name in COUNTS:
            count = values.get(name)
            if isinstance(count, int | float) and math.isfinite(count):
                return int(count)
    return None
