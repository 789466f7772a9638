"""What a client looks at before it answers: the base of the files in clients/vetting/, which score received weights."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Weights = Mapping[str, Tensor]
"""Tensors by parameter name, in the network's order."""
Action = Literal["report", "refuse", "clip", "drop-rows"]
"""What a client does with a round whose weights are flagged."""
NOTHING = -math.inf
"""Score of a detector that lacks what it looks at: below every threshold, and lowest in a ROC curve."""


@dataclass(frozen=True)
class Look:
    """What a client has at hand when it is sent weights; what is missing leaves some detectors without a score."""

    network: nn.Module | None = None
    """A network of the agreed architecture; its own weights are not used."""
    inputs: Tensor | None = None
    """The client's records of the round as the network's inputs, float32 (n, ...)."""
    labels: Tensor | None = None
    """The records' labels: int64 classes (n,), or standardized numbers, float32 (n,)."""
    earlier: tuple[Weights, ...] = ()
    """Weights that this client was sent in rounds before, the last first."""
    rounds: int = 1
    """Rounds since the last of those, 1 where it was the round before."""
    step: Weights | None = None
    """This client's own update, local minus global, in that round, before any defense; None where there is none."""
    digests: tuple[str, ...] = ()
    """Digest of the weights that each client of the round was sent, its own among them; empty without a channel
    between clients."""


class Detector(BaseModel):
    """Base of a detector: a frozen model whose fields are the keys of a scenario's [[vetting]].

    A built-in one is a file in clients/vetting/ named after its kind; others come by the entry point group
    ``fedinv.detectors``. The docstring below a field is the key's description wherever fedinv shows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """Name of the detector, which selects it in a scenario and on the command line."""
    threshold: float
    """Score above which weights are flagged."""
    action: Action = "report"
    """What a client does with a round whose weights are flagged: note it and answer ("report"), refuse the round
    ("refuse"), clip each record's gradient ("clip"), or send zeros for units that hardly any record fires
    ("drop-rows")."""
    clip: float = Field(default=1.0, gt=0)
    """Norm to which "clip" clips each record's gradient over all parameters, in the gradient's unit."""
    few: int = Field(default=1, ge=0)
    """Records of the client that a unit may fire on for "drop-rows" to send zeros in its row: at most so many."""

    highest: ClassVar[float] = math.inf
    """Highest score that it can give."""

    @property
    def remembers(self) -> int:
        """Number of earlier rounds whose weights a client keeps for the detector."""
        return 0

    def score(self, received: Weights, look: Look) -> float:
        """How suspicious the weights are, larger is more so; `NOTHING` where what it looks at is missing.

        Pure: nothing that is given is changed, and nothing is drawn at random.
        """
        return NOTHING


@dataclass(frozen=True)
class Finding:
    """What one detector found of the weights of a round."""

    detector: Detector
    """The detector, with its threshold and action."""
    score: float
    """Score of the weights; `NOTHING` where it had nothing to look at."""

    @property
    def flagged(self) -> bool:
        """Whether the score is above the detector's threshold."""
        return self.score > self.detector.threshold


def examine(detectors: Iterable[Detector], received: Weights, look: Look) -> tuple[Finding, ...]:
    """The findings of several detectors on the same weights, in their order."""
    return tuple(Finding(one, float(one.score(received, look))) for one in detectors)


def scores(detectors: Iterable[Detector], pairs: Sequence[tuple[Weights, Look]]) -> dict[str, list[float]]:
    """The scores of each detector, by its kind, on weights and what a client had at hand, in the order of the pairs.

    ROC curves follow from the scores of honest pairs and of those of a malicious server. Thresholds play no part.
    """
    return {one.kind: [float(one.score(received, look)) for received, look in pairs] for one in detectors}


def digest(weights: Weights) -> str:
    """SHA-256 over names, types, shapes and numbers, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for name, tensor in weights.items():
        values = tensor.detach().contiguous().numpy()
        total.update(json.dumps([name, str(values.dtype), values.shape]).encode() + b"\n")
        total.update(values.data if values.size else b"")
    return total.hexdigest()
