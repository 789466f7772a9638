"""Makes a secure sum the update of one client alone."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch

from fedinv.attack import Claim, Exchange, Knowledge, Observation, Progress, nothing
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.models import AnyModel
from fedinv.task.networks.perceptron import Mlp

from ..attacks.exact import Exact


class Inconsistency(Deviation):
    """All clients but the first watched one of a round are sent a last hidden layer that never fires.

    Threat model: a malicious server behind secure aggregation, which may send clients different weights: a client alone
    cannot tell, two that compare can. It needs a perceptron with ReLU.

    Claims: what `exact` reads off the sum, taken for the target's update; where a deviation listed before this one has
    made the weights, its read-out does so as well.

    Paper: Pasquini, Francati and Ateniese (2022), Eluding secure aggregation in federated learning via model
    inconsistency, on gradient suppression. All but the last bias has a gradient of 0 at a client whose last hidden
    layer is silent.
    """

    kind: Literal["inconsistency"] = "inconsistency"
    """Selects this deviation: different weights for one client."""
    alike: ClassVar[bool] = False

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network is no perceptron with ReLU; None where it is."""
        if not isinstance(model, Mlp) or model.activation != "relu":
            return "needs a perceptron with hidden layers and ReLU, as its units must be silent"
        return None

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The weights as they are for the target, and with a silent layer for all others."""
        if turn.client == turn.targets[0]:
            return sent
        made, names = dict(sent), list(sent)
        weight, bias = names[-4:-2]
        made[weight] = torch.zeros_like(sent[weight])
        made[bias] = torch.full_like(sent[bias], -1.0)
        return made

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records of the target, by `exact` on the sum as if it were its update."""
        alone = target_of(seen)
        if alone is None:
            return nothing("all clients were sent the same weights")
        return Exact().run(alone, replace(knows, defenses=None), rng, progress)


def target_of(seen: Observation) -> Observation | None:
    """The sum as the update of the one client whose last hidden layer fires; None where there is no such client.

    Its records are taken for an equal share of the sum's. The last bias, which all clients change, is taken for the
    target's: it is not.
    """
    last = seen.last
    alive = [client for client, weights in last.sent_to.items() if bool(weights[list(weights)[-4]].any())]
    if len(alive) != 1:
        return None
    count, share = max(1, round(last.records / len(seen.clients))), len(seen.clients)
    received = {name: share * tensor for name, tensor in last.received.items()}
    return Observation((alive[0],), (Exchange(last.round, last.sent_to[alive[0]], received, count),))
