"""Central noise: what the server that adds it and the clients who are charged for it must agree on."""

from pydantic import BaseModel, Field

from fedinv.privacy.claims import calibrated
from fedinv.privacy.events import PrivacyEvent


class CentralNoise(BaseModel):
    """The keys of central-dp."""

    clip: float = Field(default=1.0, gt=0)
    """Norm to which each update is cut."""
    noise_multiplier: float | None = Field(default=None, ge=0)
    """Standard deviation of the sum's noise over the clipping norm; 1 where neither it nor an epsilon is given."""
    epsilon: float | None = Field(default=None, gt=0)
    """Budget of the whole run: the noise is calibrated for it."""
    delta: float = Field(default=1e-5, gt=0, lt=1)

    def event(self, clients: int, cohort: int, rounds: int) -> PrivacyEvent:
        """What one round costs, of `cohort` clients drawn from all in secret, calibrated for all rounds."""
        event = PrivacyEvent(
            noise_multiplier=0.0,
            sampling_rate=cohort / clients,
            steps=1,
            delta=self.delta,
            unit="client",
            neighbors="replace-one",
            mechanism="central-dp",
            sampling="fixed-size",
            population=clients,
            budget=self.epsilon,
            against_server=False,
        )
        return calibrated(event, self.noise_multiplier, rounds)
