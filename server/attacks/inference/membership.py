"""Decides whether a person was in the training."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Answer, Asks, Attack, Exchange, Knowledge, Observation, Progress, Sample, Sees, unanswered
from fedinv.task.models import AnyModel

from ...countermeasures import Countermeasures, answer, answered
from ...inference.likelihood import same_batch_each_round
from ...inference.matched_filter import Evidence, clipped_gradients, evidence, is_chain
from ...inference.membership import by_gradient, by_likelihood, by_loss
from ...inference.shadows import ShadowTraining, confidences, shadows
from ...inference.whitening import gradients, seen_gradient
from ...inversion.evidence import unusable
from ...inversion.local_training import gradient_weights, known_network, local_steps, step_length

DRAWS = 256
"""Records drawn from the schema to estimate how other people's gradients vary, where there are no auxiliary records."""


class Membership(Attack):
    """Membership inference: whether a person was in the training, from the model, shadow models, or an update.

    Threat model: an honest-but-curious server that has a person's record and label and asks whether any client (from
    the trained model) or one client (from its update) trained on it. It needs the architecture and the schema; method
    "lira" needs the training's settings too, and gains by auxiliary records.

    Answers: a score for each person, higher for those who were more likely in the training.

    Papers: method "loss" (Yeom et al. 2018): people in the training have less loss. "lira" (Carlini et al. 2022,
    online): shadow models are trained, all at once, each on as many random people of the candidates and the auxiliary
    records as the federation has records, with as many steps as its rounds took, a step of all its clients together; a
    person's confidence under the trained model is compared with those of shadows trained with and without the person.
    "gradient" (after Nasr et al. 2019; Li et al. 2022): whether the person's own gradient is in a client's update, the
    others' gradients being noise of a known covariance. Where it knows of a defense's noise it clips gradients as the
    client did, weighs them by that noise, takes all layers of a perceptron, and adds up the watched rounds that used
    the same records.

    Fails where the model has not memorized single people, and behind noise; "gradient" where a batch is large, and
    "lira" on labels that are numbers and networks with batch normalization.
    """

    kind: Literal["membership"] = "membership"
    """Selects this attack: membership inference."""
    known_as: ClassVar[Mapping[str, str]] = {"mia": "membership", "membership-inference": "membership"}
    adapts_to: ClassVar[frozenset[str]] = answered("noise")
    assessed_with: ClassVar[Mapping[str, Any] | None] = {"method": "loss"}
    method: Literal["loss", "lira", "gradient"] = "lira"
    """How members are found: by their loss, by comparison with shadow models, or by their gradient in an update."""
    shadows: int = Field(default=32, ge=4, le=1024)
    """Shadow models that "lira" trains, 4 to 1024."""
    steps: int = Field(default=400, ge=1, le=100_000)
    """Most steps of a shadow model's training, 1 to 100000; where the federation took more, the learning rate is
    multiplied by the ratio."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model gives a person's record a loss, as all do."""
        return True

    @property
    def asks(self) -> Asks:
        """Membership: who was in the training."""
        return "membership"

    @property
    def sees(self) -> Sees:
        """The trained model; each update with method "gradient"."""
        return "update" if self.method == "gradient" else "model"

    def answers(self, kind: str) -> bool:
        """Whether a defense of this kind is answered: with the method "gradient" alone, those whose noise is known."""
        return self.method == "gradient" and super().answers(kind)

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Answer:
        """Answer with scores (people, 1), higher for those who were more likely in the training."""
        question, model, schema, last = knows.question, knows.model, knows.schema, seen.last
        if model is None or schema is None:
            return unanswered("the architecture is withheld" if model is None else "the schema is withheld")
        if question is None or question.people is None:
            return unanswered("there is nobody to ask about")
        try:
            network = known_network(model, {name: t.float() for name, t in last.sent.items()}, schema).eval()
        except ValueError as error:
            return unanswered(str(error))
        if last.records < 1:
            return unanswered("the message counts no records")
        people = question.people
        if self.method == "loss":
            scores = by_loss(network, people)
        elif self.method == "gradient":
            reason = unusable(last) or knows.adaptive
            if reason is not None:
                return unanswered(reason)
            against = answer(seen, knows)
            others = knows.auxiliary or Sample(
                schema.draw(DRAWS, rng), people.labels[torch.from_numpy(rng.integers(len(people), size=DRAWS))]
            )
            behind_noise = _behind_noise(against, people, others) if is_chain(network) else None
            if behind_noise is not None:
                progress(1.0)
                return Answer(behind_noise.float()[:, None])
            middle = gradient_weights(last, knows.algorithm == "fedsgd")
            network = known_network(model, middle, schema).eval()
            mean = seen_gradient(network, last.received, step_length(knows, last.records), gradients(network, others))
            scores = by_gradient(network, people, others, mean, last.records)
        else:
            if any(name.rpartition(".")[2].startswith("running_") for name in last.sent) or not schema.classes:
                return unanswered("lira has shadows of classifiers without batch normalization only")
            if knows.lr is None or knows.epochs is None or knows.batch_size is None:
                return unanswered("the training's settings are withheld, and with them how to train shadows")
            scores = self._lira(seen, knows, people, rng, progress)
        progress(1.0)
        return Answer(scores.float()[:, None]) if bool(scores.isfinite().all()) else unanswered("values are not finite")

    def _lira(
        self, seen: Observation, knows: Knowledge, people: Sample, rng: np.random.Generator, progress: Progress
    ) -> Tensor:
        extra = knows.auxiliary
        pool = (
            people
            if extra is None
            else Sample(torch.cat([people.records, extra.records]), torch.cat([people.labels, extra.labels]))
        )
        members = min(seen.last.records, len(pool) // 2)
        inside = torch.from_numpy(rng.random((self.shadows, len(pool))).argsort(1).argsort(1) < members)
        clients, batch = max(1, len(seen.clients)), knows.batch_size or 1
        rates = (knows.round_lrs or ())[: seen.last.round] or (knows.lr or 0.0,)
        lr = sum(rates) / len(rates)
        each = seen.last.records / clients
        taken = seen.last.round * (local_steps(knows, each) or 1)
        steps = min(self.steps, taken)
        seed = int(rng.integers(2**31))
        progress(0.1)
        training = ShadowTraining(steps, min(members, clients * batch), lr * taken / steps)
        trained = shadows(knows, pool, inside, training, seed)
        target = {name: t.float()[None] for name, t in seen.last.sent.items()}
        told = confidences(knows, trained, people)
        return by_likelihood(confidences(knows, target, people)[0], told, inside[:, : len(people)])


def _behind_noise(against: Countermeasures, people: Sample, others: Sample) -> Tensor | None:
    """Log likelihood ratios (people,) of the updates of known noise, added up over the rounds of the same records.

    None where no noise is known, or the learning rate is not, or an update does not fit.
    """
    knows, last = against.knows, against.seen.last
    same = knows.algorithm == "fedavg" or same_batch_each_round(knows, last.records)
    rounds = [one for one in against.seen.exchanges if one.records == last.records] if same else [last]
    found = [_evidence(against, one, people, others) for one in rounds]
    told = [one.ratio for one in found if one is not None]
    return torch.stack(told).sum(0) if told and found[-1] is not None else None


def _evidence(against: Countermeasures, one: Exchange, people: Sample, others: Sample) -> Evidence | None:
    """The evidence of one round's update; None where its noise or its scale is not known."""
    knows, distortion = against.knows.at(one.round), against.distortion(one)
    length, steps = step_length(knows, one.records), local_steps(knows, one.records)
    if knows.model is None or not distortion.noise or not length or not steps or knows.lr is None:
        return None
    # a step starts at weights that lie, on average, this far on the way to the client's model
    part = (steps - 1) / (2 * steps)
    weights = {name: t.float() + part * one.received[name].float() for name, t in one.sent.items()}
    network = known_network(knows.model, weights, knows.schema).eval()
    names = [name for name, _ in network.named_parameters()]
    own, rest = (clipped_gradients(network, some, distortion.record_clip) for some in (people, others))
    mean = float(rest.products(rest).mean().clamp_min(0).sqrt())
    # the update is `each` times the sum of the records' gradients, cut to the known norm
    each = length / one.records
    if distortion.divisor:
        passes = 1 if knows.algorithm == "fedsgd" else (knows.epochs or 1)
        each = length * passes / (steps * distortion.divisor)
    each *= min(1.0, distortion.update_clip / max(1e-30, each * one.records * mean))
    total = [-one.received[name].float() / each for name in names]
    return evidence(own, rest, total, one.records, distortion.noise / each)
