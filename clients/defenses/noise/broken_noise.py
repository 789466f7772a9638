"""Adds less noise than it is charged for: for audits alone.

The two ways are bugs that were found in practice (Tramer, Terzis, Steinke, Song, Jagielski, Carlini 2022, Debugging
differential privacy: a clipped sum divided before the noise was added; Nasr et al. 2023, section 6).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from fedinv.defense import Defense, Participation, PrivacyEvent, Release, Sending, Update
from fedinv.federation.streams import torch_stream
from fedinv.privacy.events import Delta, NoiseMultiplier

from ...mechanisms.clipping import clipped, noised


class BrokenNoise(Defense):
    """The defense clip-noise with a bug: it claims an epsilon per client that does not hold; for testing audits."""

    kind: Literal["broken-noise"] = "broken-noise"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clip": 1e6, "noise_share": 0.0}
    undercharged = "an audit is to find that the noise it is charged for is not there"
    clip: float = Field(default=1.0, gt=0)
    """Norm to which the update is clipped, over all parameters, in units of the model's weights."""
    noise_multiplier: NoiseMultiplier = 1.0
    """Standard deviation of the noise that is charged for, in multiples of `clip`."""
    noise_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the charged standard deviation that is added, 0 to 1; below 1 the claim is false."""
    sensitivity: float | None = Field(default=None, gt=0)
    """Norm by which the noise multiplier is scaled; below `clip` the claim is false. Default: `clip`."""
    delta: Delta = 1e-5
    """Delta of the (epsilon, delta) guarantee, a probability: choose it well below one over the number of clients."""

    def protect(self, update: Update, sending: Sending) -> Update:
        """Clip, and add less noise than is charged for."""
        added = self.release(sending.taken)
        return noised(clipped(update, added.norm), added.noise, torch_stream(sending.rng))

    def release(self, taken: Participation) -> Release:
        """The clipping norm, and the noise that is really added."""
        return Release(self.clip, self.noise_share * self.noise_multiplier * (self.sensitivity or self.clip))

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """One Gaussian mechanism per round, as if the charged noise were added."""
        return (
            PrivacyEvent(
                noise_multiplier=self.noise_multiplier,
                sampling_rate=1.0,
                steps=1,
                delta=self.delta,
                unit="client",
                neighbors="replace-one",
                mechanism=self.kind,
            ),
        )
