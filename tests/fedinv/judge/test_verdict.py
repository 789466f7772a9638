import numpy as np
import pytest
import torch

from fedinv.attack import Claim
from fedinv.judge.linking import register
from fedinv.judge.truth import population_of, true_rows
from fedinv.judge.verdict import Case, judge
from fedinv.results.intervals import clopper_pearson
from fedinv.scenario.reading import loads


@pytest.fixture
def setting(tiny):
    scenario = loads(tiny)
    people = population_of(scenario)
    return people, [true_rows(scenario, people, (client,), 1) for client in range(3)]


def of(people, rows):
    return Claim(people.inputs[rows], torch.ones(len(rows)))


def silent(people):
    return Claim(torch.zeros(0, people.table.schema.width), torch.zeros(0))


def rates(people, cases):
    return judge(cases, people, 0.319, np.random.default_rng(0), outside=register(people, ("age", "sex")))[1]


def test_the_truth_itself_is_all_right_and_names_everyone(setting):
    people, victims = setting
    found = rates(people, [Case(of(people, rows), rows) for rows in victims])
    for rate in (found.field_accuracy, found.recovered, found.exact):
        assert rate.value == 1.0
        assert rate.prior < 0.7
    assert found.recovered.count == 18
    assert found.field_accuracy.count == 18 * len(people.table.schema.columns)
    assert found.recovered.ci95[0] == pytest.approx(0.8147, abs=1e-3)


def test_silence_is_worth_the_guess_and_no_more(setting):
    people, victims = setting
    found = rates(people, [Case(silent(people), rows) for rows in victims])
    assert found.recovered.value == found.exact.value == found.reidentified.value == 0
    assert found.field_accuracy.value == pytest.approx(found.field_accuracy.prior, abs=0.03)
    assert found.field_accuracy.prior > 0.2


def test_a_partial_claim_counts_for_what_it_says(setting):
    people, victims = setting
    verdicts, found = judge(
        [Case(of(people, rows[:2]), rows) for rows in victims], people, 0.319, np.random.default_rng(0)
    )
    assert found.recovered.value == pytest.approx(1 / 3)
    assert [int(v.match.claimed.sum()) for v in verdicts] == [2, 2, 2]
    assert found.field_accuracy.value > 1 / 3


def test_other_peoples_records_are_no_recovery(setting):
    people, victims = setting
    found = rates(people, [Case(of(people, people.holdout[: len(rows)]), rows) for rows in victims])
    assert found.recovered.value == 0
    assert found.reidentified.value < 0.1


def test_one_victim_has_an_interval_too(setting):
    people, victims = setting
    found = rates(people, [Case(silent(people), victims[0])])
    assert found.field_accuracy.ci95[0] < found.field_accuracy.value < found.field_accuracy.ci95[1]


def test_a_person_in_two_rounds_counts_once_and_once_rebuilt_is_rebuilt(setting):
    people, victims = setting
    rows = victims[0]
    twice = [Case(of(people, rows[:2]), rows, (0,)), Case(of(people, rows[2:3]), rows, (0,))]
    found = rates(people, twice)
    assert found.recovered.count == len(rows)
    assert found.recovered.value == pytest.approx(3 / len(rows))
    assert found.field_accuracy.count == len(rows) * len(people.schema.columns)


def test_clients_not_records_are_independent(setting):
    people, victims = setting
    found = rates(people, [Case(of(people, rows), rows, (i,)) for i, rows in enumerate(victims)])
    assert found.recovered.ci95[0] == pytest.approx(clopper_pearson(3, 3)[0])
    assert found.field_accuracy.ci95[0] > found.field_accuracy.prior  # as one that fails is worth the guess


def test_a_claim_leads_to_whom_the_register_cannot_tell_apart(setting):
    people, victims = setting
    rows = np.concatenate(victims)
    verdicts, found = judge(
        [Case(of(people, rows), rows)], people, 0.319, np.random.default_rng(0), outside=register(people, ("sex",))
    )
    sex = people.table.columns["sex"]
    assert found.reidentified.value == pytest.approx(np.mean([1 / (sex == sex[row]).sum() for row in rows]))
    assert np.array_equal(verdicts[0].link.among, [(sex == sex[row]).sum() for row in rows])
    assert rates(people, [Case(of(people, rows), rows)]).reidentified.value > found.reidentified.value


def test_without_a_register_nobody_is_traced(setting):
    people, victims = setting
    found = judge([Case(of(people, victims[0]), victims[0])], people, 0.319, np.random.default_rng(0))[1]
    assert found.reidentified is None
    assert register(people, ()) is None
    assert register(people, ("age", "sex")).name == "a register of all 200 people with age and sex"


def test_the_truth_is_what_the_client_trained_on(tiny):
    scenario = loads(tiny.replace('"fedavg"', '"fedsgd"'))
    people = population_of(scenario)
    rows = true_rows(scenario, people, (1,), 1)
    assert len(rows) == 4
    assert set(rows) <= set(people.shares[1])
    assert set(rows) != set(true_rows(scenario, people, (1,), 2)) or len(people.shares[1]) == 4
    both = true_rows(scenario, people, (0, 1), 1)
    assert set(rows) < set(both)
