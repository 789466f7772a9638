"""Has the server clip and noise; it sees all before that.

McMahan, Ramage, Talwar, Zhang 2018 (Learning differentially private recurrent language models), algorithm 1, as
Flower's DifferentialPrivacyServerSideFixedClipping carries it out.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fedinv.defense import Defense, Participation, PrivacyEvent
from fedinv.defense_terms.central_dp import CentralNoise


class CentralDp(CentralNoise, Defense):
    """The server cuts every update to the norm `clip`, and adds noise to their mean.

    Guarantees epsilon per client against those who see nothing but the models of all rounds. The server sees every
    update before the noise, and so does an attacker who is the server. Neighbors replace all of a client's records.
    Where a round takes some of the clients, chosen in secret, each round is charged as a sample of fixed size (Wang,
    Balle, Kasiviswanathan 2019). Costs no bytes and hardly any time.
    """

    kind: Literal["central-dp"] = "central-dp"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clip": 1e6, "noise_multiplier": 0.0}
    by_server = True
    one_weight = True
    in_clear = "each client's update, which the server sees before it adds the noise"

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """One Gaussian mechanism a round, whether or not a client is drawn for it."""
        return (self.event(taken.clients, taken.cohort, taken.rounds),)
