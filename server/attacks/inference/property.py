"""Estimates the share of a client's people with a condition."""

from typing import Literal

import numpy as np

from fedinv.attack import Answer, Asks, Attack, Knowledge, Observation, Progress, unanswered

from ...countermeasures import answer
from ...inversion.row_space.reading import read_records
from ...inversion.row_space.search import SpanBudget


class Property(Attack):
    """Property inference: the share of a client's people with a condition, from its update.

    Threat model: an honest-but-curious server that has one update of a client, or a sum over several. It needs what
    `row-space` needs.

    Answers: the share of people whose `column` is `value`, or lies above the population's mean where it is a number. It
    counts the records that the update's spans reveal (`row-space`); one that cannot be read counts as the published
    share.

    Papers: a statistic of the population behind an update (Ateniese et al. 2015; Ganju et al. 2018; Melis et al. 2019,
    section 4). No shadow models: near the start of the training the signs of the records' signals follow their labels,
    so that no linear read-out of a perceptron's mean gradient reveals a share, only how it differs between the labels
    (tried: worse than the published share).

    Fails behind masks and noise, and in batches larger than the layers are wide: there it has no answer.
    """

    kind: Literal["property"] = "property"
    """Selects this attack: property inference."""
    column: str | None = None
    """Name of the column whose share is asked for; the first sensitive column if absent."""
    value: str | None = None
    """Value of the column whose share is asked for; the second most common one if absent, unused for a number."""

    @property
    def asks(self) -> Asks:
        """Property: the share of the client's people with a condition."""
        return "property"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Answer:
        """Answer with scores (1, 1): the share, 0 to 1, of the update's records with the condition."""
        last, schema, question = seen.last, knows.schema, knows.question
        if schema is None:
            return unanswered("the schema is withheld")
        if question is None or question.options is None or question.column is None:
            return unanswered("the records have no columns to ask about")
        against = answer(seen, knows)
        exchange = against.seen.last
        noise = against.distortion(exchange).spread
        claim = against.decode(read_records(exchange, against.requires, noise, SpanBudget(), rng, progress), rng)
        if not len(claim.records):
            return unanswered("; ".join(claim.notes))
        column, wanted = schema.columns[schema.names.index(question.column)], question.options[0]
        values = claim.records[:, schema.slices[schema.names.index(question.column)]]
        has = values[:, 0] > wanted[0] if column.width == 1 else values.argmax(1) == wanted.argmax()
        drawn = schema.draw(10_000, rng)[:, schema.slices[schema.names.index(question.column)]]
        published = drawn[:, 0] > wanted[0] if column.width == 1 else drawn.argmax(1) == wanted.argmax()
        read = min(len(has), last.records)
        share = (read * has.float().mean() + (last.records - read) * published.float().mean()) / last.records
        return Answer(share.reshape(1, 1), (f"{read} of {last.records} records were read and counted",))
