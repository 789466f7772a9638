"""Does what Flower's LocalDpMod does, and charges for it.

Its noise is that of the classic Gaussian mechanism (Dwork and Roth 2014, theorem A.1), which holds for one release and
an epsilon of at most 1.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from fedinv.defense import Defense, Participation, PrivacyEvent, RecordExposure, Release, Sending, Update
from fedinv.defense_terms.flower_local_dp import standard_deviation
from fedinv.federation.streams import torch_stream

from ..mechanisms.clipping import clipped, noised


class FlowerLocalDp(Defense):
    """update -> clipped to `clip` + Gaussian noise of sensitivity * sqrt(2 ln(1.25 / delta)) / epsilon.

    Guarantees what the ledger says over all rounds, and not the epsilon that it is set to: neighbors replace all of a
    client's records, and every round counts. Costs no bytes and hardly any time.
    """

    kind: Literal["flower-local-dp"] = "flower-local-dp"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clip": 1e6, "sensitivity": 1e-12}
    clip: float = Field(default=1.0, gt=0)
    """Norm to which the update is cut."""
    sensitivity: float = Field(default=1.0, gt=0)
    """As Flower is told; 2 * clip is what replacing a client's records may change."""
    epsilon: float = Field(default=1.0, gt=0)
    """As Flower is told, for each round by itself."""
    delta: float = Field(default=1e-5, gt=0, lt=1)

    def protect(self, update: Update, sending: Sending) -> Update:
        """Clip and noise as Flower does."""
        return noised(clipped(update, self.clip), self._std, torch_stream(sending.rng))

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """One Gaussian mechanism a round, of the noise that is there."""
        return (
            PrivacyEvent(
                noise_multiplier=self._std / self.clip,
                sampling_rate=1.0,
                steps=1,
                delta=self.delta,
                unit="client",
                neighbors="replace-one",
                mechanism=self.kind,
            ),
        )

    def release(self, taken: Participation) -> Release:
        """The clipping norm, and the noise as Flower computes it."""
        return Release(self.clip, self._std)

    def exposure(self, taken: Participation, rounds: int) -> RecordExposure | None:
        """Every round's update lies within one clipping norm of zero, whatever the local steps were."""
        return RecordExposure(self._std / self.clip, ((1.0, rounds),))

    @property
    def _std(self) -> float:
        return standard_deviation(self.sensitivity, self.epsilon, self.delta)
