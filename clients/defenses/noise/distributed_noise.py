"""Adds its share of a sum's noise: client-level DP.

Kairouz, Liu, Steinke 2021 (The distributed discrete Gaussian mechanism for federated learning with secure
aggregation), section 3: each client adds a discrete Gaussian on the grid in which updates are summed.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.defense import Defense, Participation, PrivacyEvent, Release, Sending, Update
from fedinv.federation import ring
from fedinv.privacy.claims import calibrated
from fedinv.privacy.events import Delta, Epsilon, NoiseMultiplier

from ...mechanisms.clipping import clipped
from ...mechanisms.discrete_gaussian import discrete_gaussian


class DistributedNoise(Defense):
    """update -> clipped update + noise of standard deviation noise_multiplier * clip / sqrt(clients of the round).

    Guarantees epsilon per client against a server that sees the sum alone, over all rounds; neighbors replace all of a
    client's records. A single client's message has a small share of the noise, so that secure aggregation must follow.
    Noise that clients leave out or reveal to the server is missing: `honest` is the share of a round's clients that is
    trusted to add it. The sum of discrete Gaussians differs from one (Kairouz et al. 2021,
    theorem 1) by less than 1e-100 on this grid, and is charged as a Gaussian. Costs no bytes, and the time to draw.
    """

    kind: Literal["distributed-noise"] = "distributed-noise"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clip": 1e6, "noise_multiplier": 0.0}
    for_sum = True
    one_weight = True
    clip: float = Field(default=1.0, gt=0)
    """Norm to which the update is clipped, over all parameters, in units of the model's weights."""
    noise_multiplier: NoiseMultiplier | None = None
    """Standard deviation of the noise on the sum, in multiples of `clip`. Default: what epsilon needs, else 1."""
    epsilon: Epsilon | None = None
    """Privacy budget of each client over the whole run; the noise is calibrated for it unless noise_multiplier is
    given. A client stops taking part before it exceeds the budget."""
    delta: Delta = 1e-5
    """Delta of the (epsilon, delta) guarantee, a probability: choose it well below one over the number of clients."""
    honest: float = Field(default=1.0, gt=0, le=1)
    """Share of a round's clients that are trusted to add their noise; the guarantee counts their noise alone."""

    def protect(self, update: Update, sending: Sending) -> Update:
        """Clip, round to the grid, and add this client's share of the noise; float64 entries, exact on the grid.

        Raises ValueError for noise that is too fine for the grid.
        """
        entries = sum(tensor.numel() for tensor in update.values())
        grid = 2.0**ring.FRACTION_BITS
        # rounding to the grid may lengthen the update by half a grid step in every entry
        room = self.clip - math.sqrt(entries) / grid
        std = self._noise(sending.taken) * self.clip / math.sqrt(len(sending.cohort)) * grid
        if room <= 0 or 0 < std < 1e3:
            raise ValueError(f"clip = {self.clip:g} with its noise is too fine for the grid that updates are summed on")
        protected = {}
        for name, tensor in clipped({name: t.double() for name, t in update.items()}, room).items():
            units = torch.round(tensor * grid)
            noise = discrete_gaussian(std, tensor.numel(), sending.rng) if std else np.zeros(tensor.numel())
            protected[name] = (units + torch.from_numpy(noise).reshape(tensor.shape)) / grid
        return protected

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """One Gaussian mechanism per round, with the honest clients' noise."""
        event = PrivacyEvent(
            noise_multiplier=0.0,
            sampling_rate=1.0,
            steps=1,
            delta=self.delta,
            unit="client",
            neighbors="replace-one",
            mechanism=self.kind,
            budget=self.epsilon,
            shares=self.honest * taken.cohort,
        )
        relied = None if self.noise_multiplier is None else self.noise_multiplier * math.sqrt(self.honest)
        if relied is None and self.epsilon is None:
            relied = math.sqrt(self.honest)
        return (calibrated(event, relied, taken.rounds),)

    def release(self, taken: Participation) -> Release:
        """The clipping norm, and one client's share of the sum's noise."""
        return Release(self.clip, self._noise(taken) * self.clip / math.sqrt(taken.cohort))

    def known(self, taken: Participation) -> dict[str, Any]:
        """The parameters, with the calibrated noise multiplier of the sum and the number of clients that share it."""
        return {**self.model_dump(), "noise_multiplier": self._noise(taken), "cohort": taken.cohort}

    def _noise(self, taken: Participation) -> float:
        """Standard deviation of the noise of all clients' sum, in multiples of `clip`."""
        return self.privacy_events(taken)[0].noise_multiplier / math.sqrt(self.honest)
