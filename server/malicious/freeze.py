"""Scales layers down, so that FedAvg reads as one step."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from fedinv.attack import Claim, Knowledge, Observation, Progress
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.models import AnyModel
from fedinv.task.networks.perceptron import Mlp

from ..attacks.exact import Exact
from ..inversion.local_training import step_length

MOVE = 0.2
"""Lengths of all local steps together, times the layers' factor: with 1 layers move by their own size."""
USUAL = 8
"""Local batches that a client is taken to have."""


class Freeze(Deviation):
    """Every layer is multiplied by `scale`, so that FedAvg's update is one step's on all of a client's records.

    Threat model: a malicious server whose clients take several local steps; it may send all the same. Prepares other
    deviations, of which it is listed last: a network scaled so has the same units firing at each record.

    Claims: what the signals that `exact` separates give, which no longer change from step to step.

    Paper: Fowl et al. (2022), Robbing the Fed, makes the layers behind the imprint small for FedAvg. Here
    all are: with every layer s times its size and the steps' lengths adding up to L, the product of any two layers'
    relative moves is of the order of (L s)^2, so that none of them can be left large. The last bias moves, and with it
    the error of all records of a class, which changes a record's weight in the update and nothing else.

    Fails where L s is so small that the update, a difference of float32 weights, is lost in rounding.
    """

    kind: Literal["freeze"] = "freeze"
    """Selects this deviation: a network that local steps hardly move."""
    scale: float | None = Field(default=None, gt=0, lt=1)
    """Factor of every layer's weights, 0 to 1; a bias has the factor of all layers up to its own. Default: so that the
    lengths of all local steps together, times the factor, are 0.2."""
    alike: ClassVar[bool] = True

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network is no perceptron with ReLU; None where it is."""
        if not isinstance(model, Mlp) or model.activation != "relu":
            return "needs a perceptron with hidden layers and ReLU, which scales its outputs as its weights are scaled"
        return None

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The network with all layers scaled, but for the last bias.

        Raises ValueError where it is no perceptron, or the lengths of the local steps are not known.
        """
        matrices = [name for name, tensor in sent.items() if tensor.ndim == 2]
        if len(sent) != 2 * len(matrices):
            raise ValueError("the network is no perceptron with a weight and a bias in each layer")
        scale = self.scale or _scale(knows)
        made, factor = dict(sent), 1.0
        names = list(sent)
        for weight, bias in zip(names[::2], names[1::2], strict=True):
            factor *= scale
            made[weight] = sent[weight] * scale
            made[bias] = sent[bias] * (1.0 if bias == names[-1] else factor)
        return made

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records that `exact` separates by their signals."""
        return Exact(fall_back=False).run(seen, replace(knows, defenses=None), rng, progress)


def _scale(knows: Knowledge) -> float:
    """Factor at which the layers of a client with USUAL local batches hardly move."""
    length = step_length(knows, USUAL * (knows.batch_size or 1))
    if length is None:
        raise ValueError("the learning rate, the epochs or the batch size are withheld, and no scale is given")
    return min(0.9, MOVE / length)
