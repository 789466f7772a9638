"""Clips the update and adds noise: client-level DP.

Geyer, Klein, Nabi 2017 and McMahan et al. 2018 clip and noise at the server; here each client does so on its own, so
that the guarantee needs no trust in the server.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from fedinv.defense import Defense, Participation, PrivacyEvent, RecordExposure, Release, Sending, Trial, Update
from fedinv.federation.streams import torch_stream
from fedinv.privacy.claims import calibrated
from fedinv.privacy.events import Delta, Epsilon, NoiseMultiplier

from ...mechanisms.clipping import clipped, noised


class ClipNoise(Defense):
    """update -> update * min(1, clip / norm) + N(0, (noise_multiplier * clip)^2), in units of weights.

    Guarantees epsilon per client, whoever aggregates. The message is sent whatever the records are, so that
    neighbors replace all of a client's records (sensitivity 2 * clip). Costs no bytes and hardly any time.
    """

    kind: Literal["clip-noise"] = "clip-noise"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clip": 1e6, "noise_multiplier": 0.0}
    trials = (Trial(30),)
    clip: float = Field(default=1.0, gt=0)
    """Norm to which the update is clipped, over all parameters, in units of the model's weights."""
    noise_multiplier: NoiseMultiplier | None = None
    """Standard deviation of the noise, in multiples of `clip`. Default: what epsilon needs, else 1."""
    epsilon: Epsilon | None = None
    """Privacy budget of each client over the whole run; the noise is calibrated for it unless noise_multiplier is
    given. A client stops taking part before it exceeds the budget."""
    delta: Delta = 1e-5
    """Delta of the (epsilon, delta) guarantee, a probability: choose it well below one over the number of clients."""

    def protect(self, update: Update, sending: Sending) -> Update:
        """Clip to the norm over all parameters, then add noise with a standard deviation in multiples of it."""
        generator = torch_stream(sending.rng)
        (charged,) = self.privacy_events(sending.taken)
        return noised(clipped(update, self.clip), charged.noise_multiplier * self.clip, generator)

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """One Gaussian mechanism per round."""
        event = PrivacyEvent(
            noise_multiplier=self.noise_multiplier or 0.0,
            sampling_rate=1.0,
            steps=1,
            delta=self.delta,
            unit="client",
            neighbors="replace-one",
            mechanism=self.kind,
            budget=self.epsilon,
        )
        return (calibrated(event, self.noise_multiplier, taken.rounds),)

    def release(self, taken: Participation) -> Release:
        """The clipping norm, and the noise calibrated or given."""
        return Release(self.clip, self.privacy_events(taken)[0].noise_multiplier * self.clip)

    def exposure(self, taken: Participation, rounds: int) -> RecordExposure | None:
        """Every round's update lies within one clipping norm of zero, whatever the local steps were."""
        (charged,) = self.privacy_events(taken)
        return RecordExposure(charged.noise_multiplier, ((1.0, rounds),))

    def known(self, taken: Participation) -> dict[str, Any]:
        """The parameters, with the calibrated noise multiplier."""
        return {**self.model_dump(), "noise_multiplier": self.privacy_events(taken)[0].noise_multiplier}
