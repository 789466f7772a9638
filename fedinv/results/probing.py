"""Whether given records were in the batches behind updates, counted against records that surely were not."""

import math

from pydantic import BaseModel, ConfigDict

from fedinv.results.run import Interval
from fedinv.results.terms import Whose

RATES = (0.01, 0.001)
"""Shares of other records that may be taken for members: the false positive rates at which records are counted."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AtRate(_Record):
    """Records that stand out more than all but a stated share of the others."""

    rate: float
    """Stated false positive rate: the share of others that may stand out as much, 0 to 1."""
    found: int | None
    """Number of given records that stand out more; None where there are too few others for the rate."""
    share: float | None
    """Share of the given records that is, 0 to 1: the true positive rate where all of them are members."""
    ci95: Interval | None
    """Confidence interval (95 %, Clopper and Pearson) of that share, over records."""
    false: int | None
    """Number of others that stand out more than the threshold."""
    false_ci95: Interval | None
    """Confidence interval (95 %, Clopper and Pearson) of the false positive rate that was reached."""
    words: str
    """Reason why nothing was counted; empty where it was."""


class LayerProbe(_Record):
    """One layer whose inputs were compared with the row space of its update."""

    name: str
    """Name of the layer in the network."""
    rank: int
    """Directions of the row space."""
    inputs: int
    """Directions that there are, the bias among them where it was on the wire."""
    places: int
    """Inputs that one record feeds into the layer."""
    used: bool
    """Whether records were compared with it: its update has at least half as many directions a record as the best
    layer's."""
    at: list[AtRate]
    """Records that stand out by this layer alone; empty where it was not compared."""


class UpdateProbe(_Record):
    """The given records against one update."""

    update: int
    """Place of the update in the order recorded, from 0."""
    round: int
    """Round of the update."""
    client: Whose
    """Number of the client, or its node id; "sum" for several behind secure aggregation."""
    layers: list[LayerProbe]
    """Layers whose row spaces do not hold all inputs, in the order in which they run."""
    at: list[AtRate]
    """Records that stand out by all used layers together, at each false positive rate."""
    notes: list[str]
    """Facts that weaken the comparison, or the reason why there is none."""


class ProbeVerdict(_Record):
    """Whether given records were behind the updates of a recording or a run."""

    network: str
    """Name of the network."""
    records: int
    """Number of given records."""
    others: int
    """Number of records that were surely not trained on."""
    members: bool
    """Whether the given records are known to be members, so that the share found is the true positive rate."""
    updates: list[UpdateProbe]
    """One for each update that was probed."""
    notes: list[str]
    """Records that were left out, and parts of the recording that could not be read."""
    headline: str
    """The verdict in one sentence."""


def fewest(rate: float) -> int:
    """Least number of other records with which a false positive rate can be stated: one of them may stand out."""
    return math.ceil(1 / rate - 1e-9)
