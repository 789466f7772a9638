"""Picks which of n candidates was in the batch."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Answer, Asks, Attack, Knowledge, Observation, Progress, unanswered

from ...countermeasures import answer, answered
from ...inference.likelihood import mechanism, same_batch_each_round
from ...inversion.evidence import unusable


class LineUp(Attack):
    """Line-up: which of n candidates was in the batch, by likelihood under the known clip and noise.

    Threat model: an informed server that knows every other record of the batch and that exactly one of the candidates
    was in it, as the theory of reconstruction robustness assumes. It needs the architecture, schema, loss and learning
    rate.

    Answers: a score for each candidate, the logarithm of the density of the update given it,
    -|update - expected|^2 / (2 std^2). Where each round's batch is all of a client's records, the scores of the watched
    rounds are added. Without knowledge of noise it compares distances as if there were none.

    Paper: the prior-aware attack of Hayes et al. 2023 (section 4, sampling rate 1, as the batch is known).

    Fails, without an answer, on several local steps, on sums of clients, and where a batch normalization mixes the
    records.
    """

    kind: Literal["line-up"] = "line-up"
    """Selects this attack: the line-up."""
    adapts_to: ClassVar[frozenset[str]] = answered("noise")
    candidates: int = Field(default=10, ge=2, le=1000)
    """People in the line-up, 2 to 1000, of whom exactly one was in the batch; a guess is right once in so many."""

    @property
    def asks(self) -> Asks:
        """Line-up: which of the candidates was in the batch."""
        return "line-up"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Answer:
        """Answer with scores (1, candidates): log-likelihoods up to a constant."""
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
                given = mechanism((exchange,), knows.at(exchange.round), against.distortion(exchange))
                known = given.gradients(others).sum(0)
                scores += given.log_likelihood(known + given.gradients(people), len(others) + 1)
                progress(done / len(watched))
        except ValueError as error:
            return unanswered(str(error))
        notes = () if given.std > 0 else ("no noise is known of: distances are compared as if there were none",)
        return Answer((scores - scores.max()).float()[None], notes)
