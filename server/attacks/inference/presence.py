"""Decides whether people are in an update, or in a sum of many."""

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Answer, Asks, Attack, Exchange, Knowledge, Observation, Progress, unanswered
from fedinv.task.models import AnyModel

from ...inversion.evidence import unusable

FEW = 0.05
"""Share of all pairs of a person and a unit that may fire; in an honest network it is near a half."""


class Presence(Attack):
    """Whether a person is in an update, by the gradient of units that a malicious server made to fire at that person.

    Threat model: a malicious server that sent weights which fire at one person's record each, a canary, and has the
    people's records. It reads single updates, and sums behind secure aggregation.

    Answers: a score for each person, the largest change of a unit's bias that fires at the record, in any watched
    round; 0 for people at whose record no unit fires.

    Paper: Pasquini, Francati and Ateniese (2022), Eluding secure aggregation in federated learning via model
    inconsistency, on canary gradients.

    Fails behind noise, and where the server followed the protocol.
    """

    kind: Literal["presence"] = "presence"
    """Selects this attack: who is in an update of canaries."""
    last_only: ClassVar[bool] = True
    reads_deviations: ClassVar[bool] = True

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model is a perceptron, whose first layer holds the canaries."""
        return model.perceptron

    @property
    def asks(self) -> Asks:
        """Membership: who was in the training."""
        return "membership"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Answer:
        """Answer with scores (people, 1), higher for those who were more likely in the update."""
        if knows.question is None or knows.question.people is None:
            return unanswered("there is nobody to ask about")
        reason = unusable(seen.last)
        if reason is not None:
            return unanswered(reason)
        people = knows.question.people.records
        found = [one for one in (_scores(exchange, people) for exchange in seen.exchanges) if one is not None]
        progress(1.0)
        if not found:
            return unanswered("the weights that were sent fire at many people: the server sent no canaries")
        scores, covered = (torch.stack(part) for part in zip(*found, strict=True))
        count = int(covered.any(0).sum())
        notes = () if count == len(people) else (f"{count} of {len(people)} people had a canary",)
        return Answer(scores.amax(0).float()[:, None], notes)


def _scores(one: Exchange, people: Tensor) -> tuple[Tensor, Tensor] | None:
    """Score of each person, (people,), and whether a unit fires at them; None where units fire at many."""
    tensors = list(one.sent.values())
    if len(tensors) < 2 or tensors[0].ndim != 2 or tensors[0].shape[1] != people.shape[1]:
        return None
    fires = people.double() @ tensors[0].double().T + tensors[1].double() > 0
    if float(fires.double().mean()) > FEW or not bool(fires.any()):
        return None
    signal = list(one.received.values())[1].double().abs()
    if not bool(signal.isfinite().all()):
        return None
    return (fires * signal).amax(1), fires.any(1)
