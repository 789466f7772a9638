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
from fedinv.privacy.events import Delta

from ...mechanisms.clipping import clipped, noised


class FlowerLocalDp(Defense):
    """update -> clipped to `clip` + Gaussian noise of sensitivity * sqrt(2 ln(1.25 / delta)) / epsilon.

    Guarantees the epsilon of the ledger, composed over all rounds, and not the one that it is set to: neighbors replace
    all of a client's records, and every round counts. Costs no bytes and hardly any time.
    """

    kind: Literal["flower-local-dp"] = "flower-local-dp"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clip": 1e6, "sensitivity": 1e-12}
    clip: float = Field(default=1.0, gt=0)
    """Norm to which the update is clipped, over all parameters, in units of the model's weights."""
    sensitivity: float = Field(default=1.0, gt=0)
    """Sensitivity that Flower is given, in units of the model's weights; the true one is 2 * clip, for which the ledger
    charges."""
    epsilon: float = Field(default=1.0, gt=0)
    """Epsilon that Flower is given, for each round; the ledger composes the true cost over all rounds."""
    delta: Delta = 1e-5
    """Delta that Flower is given, a probability; the ledger states its epsilon at the same delta."""

    def protect(self, update: Update, sending: Sending) -> Update:
        """Clip and add noise as Flower does."""
        return noised(clipped(update, self.clip), self._std, torch_stream(sending.rng))

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """One Gaussian mechanism per round, with the noise that is added."""
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
