"""Which of n candidates was in the batch, behind noise."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Answer, Asks, Attack, Knowledge, Observation, Progress, unanswered

from ..countermeasures import answer, answered
from ..inference.likelihood import mechanism, same_batch_each_round
from ..inversion.evidence import unusable


class LineUp(Attack):
    """Which of n candidates was in the batch, told by likelihood under the known clip and noise.

    Threat model: an informed server that knows every other record of the batch and that exactly one of the candidates
    was in it, as the theory of reconstruction robustness assumes. It needs the architecture, schema, loss and learning
    rate, and of dp-sgd the batch size. The score of a candidate is the logarithm of the density of the update given it:
    -|update - expected|^2 / (2 std^2), the prior-aware attack of Hayes et al. 2023 (section 4, sampling rate 1, as the
    batch is known). Where each round's batch is all of a client's records, the rounds that were watched add up.

    Told of no noise it compares distances as if there were none. It gives no answer on several local steps, on sums of
    clients, and where a batch normalization mixes the records.
    """

    kind: Literal["line-up"] = "line-up"
    adapts_to: ClassVar[frozenset[str]] = answered("noise")
    candidates: int = Field(default=10, ge=2, le=1000)
    """How many people stand in the line-up."""

    @property
    def asks(self) -> Asks:
        """Who of the candidates it was."""
        return "line-up"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Answer:
        """Scores (1, candidates): log-likelihoods up to a constant."""
        question = knows.question
        if question is None or question.people is None or question.others is None:
            return unanswered("there is no line-up: the batch was empty, or several clients stand behind the update")
        reason = unusable(seen.last)
        if reason is not None:
            return unanswered(reason)
        people, others = question.people, question.others
        against = answer(seen, knows)
        seen = against.seen
        scores = torch.zeros(len(people), dtype=torch.float64)
        watched = seen.exchanges if same_batch_each_round(knows, seen.last.records) else (seen.last,)
        try:
            for done, exchange in enumerate(watched, 1):
                given = mechanism((exchange,), knows, against.distortion(exchange))
                known = given.gradients(others).sum(0)
                scores += given.log_likelihood(known + given.gradients(people), len(others) + 1)
                progress(done / len(watched))
        except ValueError as error:
            return unanswered(str(error))
        notes = () if given.std > 0 else ("no noise is known of: distances are compared as if there were none",)
        return Answer((scores - scores.max()).float()[None], notes)
