"""Has the server clip and noise; it sees all before that.

McMahan, Ramage, Talwar, Zhang 2018 (Learning differentially private recurrent language models), algorithm 1, as
Flower's DifferentialPrivacyServerSideFixedClipping carries it out.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fedinv.defense import Defense, Participation, PrivacyEvent
from fedinv.defense_terms.central_dp import CentralNoise


class CentralDp(CentralNoise, Defense):
    """The server clips every update to the norm `clip`, and adds noise to their mean.

    Guarantees epsilon per client against those who see the models of all rounds alone. The server, and an attacker in
    its place, sees every update before the noise. Neighbors replace all of a client's records.
    Where a round takes a part of the clients, drawn in secret, each round is charged as a sample of fixed size (Wang,
    Balle, Kasiviswanathan 2019). Costs no bytes and hardly any time.
    """

    kind: Literal["central-dp"] = "central-dp"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clip": 1e6, "noise_multiplier": 0.0}
    by_server = True
    one_weight = True
    in_clear = "each client's update, which the server sees before it adds the noise"

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """One Gaussian mechanism per round, whether or not the client is drawn for it."""
        return (self.event(taken.clients, taken.cohort, taken.rounds),)
