import numpy as np
import torch

from fedinv.attack import Sample
from fedinv.judge.questions.samples import samples
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import loads


def test_copies_of_true_records_are_seen_for_what_they_are(tiny):
    people = population_of(loads(tiny))
    truth = Sample(people.inputs[:100], people.labels[:100])
    measures, shown = samples(truth, truth, people.table.schema, 0.319, np.random.default_rng(0))
    fields, whole, *shares = measures
    assert (fields.value, whole.value) == (1.0, 1.0)
    assert whole.prior == 0.0
    assert fields.prior < 0.9
    assert all(one.value == 1.0 for one in shares)
    assert all(shown.right)


def test_draws_from_the_frequencies_are_worth_no_more_than_the_guess(tiny):
    people = population_of(loads(tiny))
    rng = np.random.default_rng(1)
    drawn = Sample(people.table.schema.draw(200, rng), torch.from_numpy(rng.integers(0, 2, 200)))
    fields, whole, *_ = samples(drawn, Sample(people.inputs, people.labels), people.table.schema, 0.319, rng)[0]
    assert fields.ci95[1] < fields.prior  # as the commonest value of every column is nearer to somebody than a draw
    assert whole.value == 0.0
