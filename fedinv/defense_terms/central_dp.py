"""Parameters of central noise, which the server adds and the clients are charged for."""

from pydantic import BaseModel, Field

from fedinv.privacy.claims import calibrated
from fedinv.privacy.events import Delta, Epsilon, NoiseMultiplier, PrivacyEvent


class CentralNoise(BaseModel):
    """Keys of central-dp in a scenario, without `kind`."""

    clip: float = Field(default=1.0, gt=0)
    """Norm to which each update is clipped, in units of the model's weights."""
    noise_multiplier: NoiseMultiplier | None = None
    """Standard deviation of the noise on the sum, in multiples of `clip`. Default: what epsilon needs, else 1."""
    epsilon: Epsilon | None = None
    """Privacy budget of the whole run, for which the noise is calibrated unless noise_multiplier is given."""
    delta: Delta = 1e-5
    """Delta of the (epsilon, delta) guarantee, a probability: choose it well below one over the number of clients."""

    def event(self, clients: int, cohort: int, rounds: int) -> PrivacyEvent:
        """Charge of one round, its `cohort` drawn in secret from `clients`, its noise calibrated for all rounds."""
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
