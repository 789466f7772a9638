"""Sends honest weights again with biases moved by less than a step."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Claim, Exchange, Knowledge, Observation, Progress, nothing
from fedinv.deviation import Deviation, Dial, Turn, Weights
from fedinv.task.models import AnyModel

from ..crafting import certificates, flips
from ..crafting.quantiles import samples
from .grid import two_layers

DRAWN = 4000
"""Records drawn from the public marginals, or auxiliary ones, at which the outputs must hardly change."""
LOUD = 0.5
"""Share of the directions in which the biases do not move, as the outputs change most along them."""
UNSURE = 0.5
"""Confidence in a record that the dictionary certifies, and the network does not."""
FEWEST = 3
"""Smallest number of rounds: what changes smoothly is the median of the changes between them."""


class Differential(Deviation):
    """The model of one round is sent again in the next ones, its second layer's biases moved by less than a step.

    Threat model: a malicious server that clients vet by the weights they get: these are an honest model's, and two
    rounds differ by no more than `shift` honest steps. All clients of a round are sent the same. It needs a perceptron
    with two hidden layers and ReLU, classes, the schema, rounds that the attacker watches, at least three, and
    a client that trains with FedSGD on all of its records, so that its batch is the same in each. A secure sum is read
    as one large batch.

    Claims: records at which a unit of the second layer began to fire, or ceased to, alone between two rounds, with
    labels. Each is certified by the public dictionary, and is verified where the network that was sent reproduces the
    change by it and its numbers are known to 0.001 standard deviations (`server.crafting.certificates`). The biases
    move along directions in which likely records' outputs hardly change, so that errors stay the same. Records are
    missed where first layers are narrower than about twice the inputs' free numbers, as layer 1's outputs then do not
    fix the record.

    Fails behind noise and on batches that differ from round to round. Shows as equal weights in consecutive rounds.

    Derivation: `server.crafting.flips`. After differences of a network's outputs over nearby inputs (Carlini, Jagielski
    and Mironov 2020, Cryptanalytic extraction of neural network models, section 4), taken over nearby weights.
    """

    kind: Literal["differential"] = "differential"
    """Selects this deviation: honest weights again, with biases moved a little."""
    shift: float = Field(default=0.5, gt=0, le=1000)
    """Norm of the move between two rounds, in units of the norm of the first round's update."""
    alike: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True
    evasions: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    dials: ClassVar[tuple[Dial, ...]] = (Dial("shift", 0.001, 0.5),)

    def crafted_in(self, rounds: int) -> Sequence[int]:
        """All but the first round, in which the weights are the model's."""
        return range(2, rounds + 1)

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network is none with two hidden layers and ReLU; None where it is."""
        return two_layers(model)

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The weights as they are, but for the second layer's biases from the second round of this model on.

        Raises ValueError where the schema is withheld or a number is predicted.
        """
        name = list(sent)[3]
        if knows.schema is None:
            raise ValueError("the schema is withheld, by which biases are chosen that hardly change the outputs")
        if len(list(sent.values())[-1]) < 2:
            raise ValueError("the network has a single output, and classes are needed")
        before = same_model(turn.seen, sent)
        if not before:
            return sent
        if len(before) > 1:  # on along the same line
            move = list(before[1].sent.values())[3] - list(before[0].sent.values())[3]
        else:
            length = float(torch.stack([tensor.norm() for tensor in before[0].received.values()]).norm())
            move = self.shift * length * direction(sent, samples(knows.schema, knows, rng)[:DRAWN])
        return {**sent, name: sent[name] + len(before) * move.to(sent[name].dtype)}

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records that single units gained or lost between rounds."""
        last = seen.last
        width = next(iter(last.sent.values())).shape[-1]
        reason = unreadable(last, knows)
        if reason is not None or knows.schema is None:
            return nothing(reason or "the schema is withheld", width)
        rounds = same_model(seen.exchanges, last.sent)
        if len(rounds) < FEWEST:
            return nothing(f"{len(rounds)} rounds of one model were watched, and {FEWEST} are needed", width)
        batch = flips.rounds(rounds, knows.lr or 1.0)
        found, sure = certificates.read(batch, knows.schema)
        if not len(found.records):
            return nothing("no unit's change between rounds is that of a single record", width)
        notes = () if len(sure) >= last.records else (f"{len(sure)} of {last.records} records recovered",)
        return Claim(found.records.float(), torch.where(sure, 1.0, UNSURE), found.labels, None, notes, checked=sure)


def unreadable(last: Exchange, knows: Knowledge) -> str | None:
    """Why updates cannot be read in this way, as a clause; None where they can."""
    matrices = [tensor for tensor in last.sent.values() if tensor.ndim == 2]
    if knows.schema is None:
        return "the schema is withheld, by which single records are known from sums"
    if len(last.sent) != 6 or len(matrices) != 3 or matrices[0].shape[1] != knows.schema.width:
        return "the network is no perceptron with two hidden layers over the schema's columns"
    if len(matrices[-1]) < 2:
        return "the network has a single output, and classes are needed"
    if knows.algorithm == "fedavg":
        return "clients take several local steps, whose changes hide those of single units"
    if {name: tensor.shape for name, tensor in last.received.items()} != {n: t.shape for n, t in last.sent.items()}:
        return "the update does not have the network's parameters"
    if not all(bool(tensor.isfinite().all()) for tensor in last.received.values()):
        return "the update is not finite"
    return None


def same_model(exchanges: Sequence[Exchange], sent: Weights) -> tuple[Exchange, ...]:
    """The rounds in which the same weights were sent, but for the second layer's biases."""
    names = [name for place, name in enumerate(sent) if place != 3]
    return tuple(one for one in exchanges if all(torch.equal(one.sent[name], sent[name]) for name in names))


def direction(sent: Weights, people: Tensor) -> Tensor:
    """A unit vector (units,) along which layer 2's biases move, while outputs at such people (n, width) hardly do."""
    w1, b1, w2, b2, w3, _ = (tensor.double() for tensor in sent.values())
    fires = (torch.relu(people @ w1.T + b1) @ w2.T + b2 > 0).double()
    effects = [fires * row for row in w3 - w3.mean(0)]
    _, along = torch.linalg.eigh(sum(effect.T @ effect for effect in effects))  # the smallest effect first
    quiet = along[:, : len(along) - int(LOUD * len(along))].T
    # from equal moves of all units, which flip as many records each
    move = torch.ones(len(b2), dtype=torch.float64) @ quiet.T @ quiet
    unit: Tensor = move / move.norm()
    return unit
