"""Clips the update and adds noise before sending: client-level DP.

Geyer, Klein, Nabi 2017 and McMahan et al. 2018 clip and noise at the client level; here each client does it for
itself, so the guarantee needs no trust in the server.
"""

import math
from typing import Literal

import torch
from pydantic import Field

from fedinv.defense import Defense, PrivacyEvent, Sending, State, Update
from fedinv.streams import torch_stream


class ClipNoise(Defense):
    """update -> update * min(1, clip / norm) + N(0, (noise_multiplier * clip)^2), in units of weights.

    The message is sent whatever the records are, so neighbors replace all of a client's records (sensitivity
    2 * clip). An update that is not finite is treated as zero, as clipping would let it through.
    """

    kind: Literal["clip-noise"] = "clip-noise"
    clip: float = Field(gt=0)
    noise_multiplier: float = Field(ge=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)

    def protect(self, update: Update, sending: Sending) -> Update:
        """Clip to the norm over all parameters, then add noise of the given multiple of it."""
        norm = math.sqrt(sum(float(tensor.double().square().sum()) for tensor in update.values()))
        scale = min(1.0, self.clip / norm) if norm > 0 else 1.0
        generator = torch_stream(sending.rng)
        std = self.noise_multiplier * self.clip
        protected = {}
        for name, tensor in update.items():
            clipped = tensor * scale if math.isfinite(norm) else torch.zeros_like(tensor)
            protected[name] = clipped + std * torch.randn(tensor.shape, generator=generator)
        return protected

    def privacy_events(self, state: State, rounds: int) -> tuple[PrivacyEvent, ...]:
        """One Gaussian mechanism a round."""
        if rounds == 0:
            return ()
        return (
            PrivacyEvent(
                noise_multiplier=self.noise_multiplier,
                sampling_rate=1.0,
                steps=rounds,
                delta=self.delta,
                unit="client",
                neighbors="replace-one",
                mechanism=self.kind,
            ),
        )
