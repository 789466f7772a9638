import numpy as np
import pytest
import torch

from fedinv.attack import Answer, Attack, Exchange, Observation, unanswered
from fedinv.judge.questions import Heard, Setting, membership
from fedinv.judge.truth import held_out, population_of
from fedinv.scenario.reading import loads

RNG = np.random.default_rng(0)
MODEL = Observation((0, 1, 2, 3), (Exchange(3, {"w": torch.zeros(1)}, {}, 24),))


@pytest.fixture
def setting(tiny):
    text = tiny.replace("records = 200", "records = 2600\nholdout = 0.5").replace(
        "records_per_client = 6", "records_per_client = 200"
    )
    scenario = loads(text.replace("[attacker]\n", "[attacker]\nauxiliary = 100\n"))
    return Setting(scenario, population_of(scenario), Attack(kind="asking"), lambda: pytest.fail("no model is needed"))


def _members(setting):
    rows, member = membership._candidates(setting, MODEL)
    held = np.concatenate(setting.people.shares)
    assert np.array_equal(np.isin(rows, held), member)
    return rows, member


def test_candidates_are_members_and_people_nobody_gave_away(setting):
    rows, member = _members(setting)
    granted, _ = held_out(setting.scenario, setting.people)
    assert not np.isin(rows, granted).any()
    assert (member.sum(), (~member).sum()) == (800, 1000)
    question = membership.ask(setting, MODEL)
    assert torch.equal(question.people.records, setting.people.inputs[rows])
    assert abs(member[:900].mean() - member[900:].mean()) < 0.1  # the order tells nothing


def test_perfect_scores_find_all_and_chance_finds_what_it_may(setting):
    _, member = _members(setting)
    perfect = Answer(torch.from_numpy(member).float()[:, None])
    found = membership.judge(setting, [Heard(MODEL, None, perfect)], RNG)
    assert [m.value for m in found.measures] == [1.0, 1.0]
    assert "too few for 0.1 %" in found.says  # 1,000 others allow no rate below 1 %
    assert found.curve.false_positives[0] == pytest.approx(0.01)
    blind = Answer(torch.from_numpy(np.random.default_rng(1).random((len(member), 1))).float())
    by_chance = membership.judge(setting, [Heard(MODEL, None, blind)], RNG).measures
    assert all(m.ci95[0] <= m.prior <= m.ci95[1] for m in by_chance)


def test_ties_are_no_finds(setting):
    _, member = _members(setting)
    same = Answer(torch.zeros(len(member), 1))
    auc, rare = membership.judge(setting, [Heard(MODEL, None, same)], RNG).measures
    assert (auc.value, rare.value) == (0.5, 0.0)


def test_silence_is_no_answer(setting):
    assert membership.judge(setting, [Heard(MODEL, None, unanswered("why"))], RNG).measures == []


def test_a_person_asked_about_twice_is_one_person():
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.standard_normal(50), 10)
    people = np.repeat(np.arange(50), 10)
    together = np.std([one.mean() for one in membership._redrawn(scores, people, np.random.default_rng(1))])
    apart = np.std([one.mean() for one in membership._redrawn(scores, np.arange(500), np.random.default_rng(1))])
    assert together == pytest.approx(scores.std() / 50**0.5, rel=0.15)
    assert apart == pytest.approx(scores.std() / 500**0.5, rel=0.15)


def test_where_clients_are_unlike_the_others_are_like_the_client(tiny):
    text = tiny.replace(
        "records = 200", 'records = 2000\npartition = { kind = "by-column", column = "diagnosis" }\nholdout = 0.4'
    ).replace("records_per_client = 6", "records_per_client = 60")
    scenario = loads(text)
    setting = Setting(scenario, population_of(scenario), Attack(kind="asking"), lambda: pytest.fail("no model"))
    people = setting.people
    diagnosis = people.table.columns["diagnosis"]
    aucs = []
    for client in range(4):
        seen = Observation((client,), (Exchange(1, {"w": torch.zeros(1)}, {"w": torch.zeros(1)}, 60),))
        rows, member = membership._candidates(setting, seen)
        assert (~member).sum() >= 30
        own = people.shares[client]
        typical = np.array([(diagnosis[own] == one).mean() for one in diagnosis[rows]])
        aucs.append(membership._auc(typical[member], typical[~member]))
    assert max(aucs) < 0.6  # strangers of the whole population: above 0.9
