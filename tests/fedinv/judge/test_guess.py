import numpy as np
import pytest
import torch

from fedinv.attack import Claim
from fedinv.judge.codebook import Layout, batches, fitted
from fedinv.judge.guess import CONSTANT, DRAWN, LEARNED, MODES, simulated, strongest
from fedinv.judge.matching import match
from fedinv.judge.truth import population_of
from fedinv.judge.verdict import Case, judge
from fedinv.scenario.reading import loads, read

TOLERANCE = 0.319


def right(guess, people, victims):
    """Mean share of fields that a guess gets right of each batch of people."""
    rng, schema = np.random.default_rng(5), people.table.schema
    return np.mean(
        [
            match(guess(len(rows), rng), people.table.take(rows).columns, schema, TOLERANCE).right.mean()
            for rows in victims
        ]
    )


def victims_of(people, size, count, rng):
    return [rng.choice(len(people.table), size, replace=False) for _ in range(count)]


@pytest.fixture(scope="module")
def hospital():
    return population_of(read("hospital"))


def test_one_record_is_guessed_by_its_most_likely_values(hospital):
    assert strongest(hospital.schema, [1], TOLERANCE, None, np.random.default_rng(0)).fields[0].name == CONSTANT


@pytest.mark.parametrize(("size", "least"), [(8, 0.46), (32, 0.50)])
def test_a_batch_is_guessed_better_than_by_its_most_likely_values_or_by_draws(hospital, size, least):
    guesses = strongest(hospital.schema, [size], TOLERANCE, None, np.random.default_rng(0))
    drawn = victims_of(hospital, size, 256 // size, np.random.default_rng(1))
    best = right(guesses.fields[0].make, hospital, drawn)
    assert guesses.fields[0].name not in (CONSTANT, DRAWN)
    assert best >= least
    assert best > right(lambda count, _: hospital.schema.guess(count), hospital, drawn) + 0.03
    assert best > right(hospital.schema.draw, hospital, drawn) + 0.03


def test_auxiliary_records_make_the_guess_better(hospital):
    known, others = hospital.inputs[:300], np.arange(300, len(hospital.table))
    informed = strongest(hospital.schema, [16], TOLERANCE, known, np.random.default_rng(0)).fields[0]
    blind = strongest(hospital.schema, [16], TOLERANCE, None, np.random.default_rng(0)).fields[0]
    rng = np.random.default_rng(2)
    drawn = [rng.choice(others, 16, replace=False) for _ in range(60)]
    assert informed.name in (MODES, LEARNED)
    assert right(informed.make, hospital, drawn) > right(blind.make, hospital, drawn)


def test_the_choice_is_the_same_whatever_the_truth_is(hospital):
    guesses = [strongest(hospital.schema, [8, 8], TOLERANCE, None, np.random.default_rng(3)) for _ in range(2)]
    made = [one.fields[0].make(8, np.random.default_rng(4)) for one in guesses]
    assert torch.equal(*made)


def test_batches_of_many_sizes_share_a_few_fits(hospital):
    guesses = strongest(hospital.schema, [0, 3, 7, 20, 33, 900], TOLERANCE, None, np.random.default_rng(0))
    for count in (0, 1, 3, 30, 600):
        assert guesses.fields[0].make(count, np.random.default_rng(0)).shape == (count, hospital.schema.width)


def test_simulated_people_have_the_published_mean_and_spread_and_know_no_more(hospital):
    schema = hospital.schema
    people = simulated(schema, 20_000, np.random.default_rng(0))
    assert people.mean(0) == pytest.approx(hospital.inputs.numpy().mean(0), abs=0.35)
    at = schema.slices[schema.names.index("blood_type")]
    assert people[:, at].mean(0) == pytest.approx(
        schema.columns[schema.names.index("blood_type")].frequencies, abs=0.02
    )


def test_fitting_agrees_with_people_more_than_what_it_starts_from(hospital):
    layout, rng = Layout(hospital.schema, TOLERANCE), np.random.default_rng(0)
    people = hospital.inputs.numpy()
    start = people[:8]
    made, tests = fitted(start, people[8:1000], layout, rng), batches(people[1000:], 8, rng)

    def worth(batch):
        return layout.right(batch, np.take_along_axis(tests, layout.matched(batch, tests)[..., None], axis=1)).mean()

    assert worth(made) > worth(start) + 0.05
    assert np.array_equal(layout.valid(made), made)


def test_of_images_the_guess_that_turns_out_best_counts():
    people = population_of(read("digits"))
    guesses = strongest(people.schema, [2], TOLERANCE, None, np.random.default_rng(0))
    assert guesses.fields == guesses.images
    rows = people.shares[0][:2]
    silent = Claim(torch.zeros(0, people.schema.width), torch.zeros(0))
    _, rates = judge([Case(silent, rows)], people, TOLERANCE, np.random.default_rng(0), guesses)
    constant = right(lambda count, _: people.schema.guess(count), people, [rows])
    assert rates.field_accuracy.prior >= constant
    assert rates.images.psnr.value == pytest.approx(rates.images.psnr.prior)


def test_silence_is_worth_exactly_the_guess_which_is_named(tiny):
    people = population_of(loads(tiny))
    rows = people.shares[0]
    silent = Claim(torch.zeros(0, people.schema.width), torch.zeros(0))
    _, rates = judge([Case(silent, rows)] * 2, people, TOLERANCE, np.random.default_rng(0))
    assert rates.field_accuracy.value == pytest.approx(rates.field_accuracy.prior, abs=1e-12)
    assert rates.field_accuracy.guess == rates.recovered.guess != ""
