import math

import numpy as np
import pytest
import torch

from fedinv.attack import Answer, Attack, Exchange, Observation, unanswered
from fedinv.judge.questions import Heard, Setting, line_up
from fedinv.judge.truth import population_of, true_rows
from fedinv.privacy.reconstruction_bound import reconstruction_bound
from fedinv.scenario.reading import loads

RNG = np.random.default_rng(0)
DP = '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 1.0\nclip = 1.0\n'


class Pointing(Attack):
    kind: str = "pointing"
    candidates: int = 5


def _setting(text):
    scenario = loads(text)
    return Setting(scenario, population_of(scenario), Pointing(), lambda: pytest.fail("no model is needed"))


def _seen(round_=1, clients=(1,)):
    weights = {"w": torch.zeros(1)}
    return Observation(clients, (Exchange(round_, weights, weights, 4),))


def _place(setting, seen, question):
    """Of the candidate who was in the batch."""
    rows = true_rows(setting.scenario, setting.people, seen.clients, seen.last.round)
    found = [
        i for i, c in enumerate(question.people.records) if any(torch.equal(c, setting.people.inputs[r]) for r in rows)
    ]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def fedsgd(tiny):
    return tiny.replace('"fedavg"', '"fedsgd"')


def test_one_of_the_batch_stands_among_people_whom_no_client_holds(fedsgd):
    setting = _setting(fedsgd)
    question = line_up.ask(setting, _seen())
    rows = true_rows(setting.scenario, setting.people, (1,), 1)
    assert (len(question.people), len(question.others)) == (5, len(rows) - 1)
    target = question.people.records[_place(setting, _seen(), question)]
    together = torch.cat([question.others.records, target[None]])
    torch.testing.assert_close(together.sum(0), setting.people.inputs[rows].sum(0))
    assert line_up.ask(setting, _seen(clients=(0, 1))) is None


def test_the_place_tells_nothing(fedsgd):
    setting = _setting(fedsgd)
    seen = [_seen(r, (c,)) for r in range(1, 51) for c in range(4)]
    places = np.bincount([_place(setting, one, line_up.ask(setting, one)) for one in seen], minlength=5)
    assert places.min() > 20
    assert places.max() < 65


def test_right_answers_score_one_and_silence_a_guess(fedsgd):
    setting = _setting(fedsgd)
    heard, silent = [], []
    for one in (_seen(r, (c,)) for r in range(1, 26) for c in range(4)):
        question = line_up.ask(setting, one)
        heard.append(Heard(one, question, Answer(torch.eye(5)[_place(setting, one, question)][None])))
        silent.append(Heard(one, question, unanswered("why")))
    (told,) = line_up.judge(setting, heard, RNG).measures
    assert (told.value, told.count, told.prior, told.bound) == (1.0, 100, 0.2, None)
    (guessed,) = line_up.judge(setting, silent, RNG).measures
    assert guessed.ci95[0] < 0.2 < guessed.ci95[1]


def test_the_bound_is_of_what_was_spent_until_then(fedsgd):
    setting = _setting(fedsgd + DP)

    def bound(round_):
        one = next(s for s in (_seen(round_, (c,)) for c in range(4)) if line_up.ask(setting, s) is not None)
        heard = Heard(one, line_up.ask(setting, one), unanswered("why"))
        finding = line_up.judge(setting, [heard], RNG)
        assert "theory says at most" in finding.says
        return finding.measures[0].bound

    assert bound(1) == pytest.approx(reconstruction_bound(0.2, 1.0))
    assert bound(3) == pytest.approx(reconstruction_bound(0.2, 1.0, 1.0, 1, more=[(4 / 6, 2)]))
    assert bound(3) > bound(1)


def test_several_local_steps_of_dp_sgd_have_no_bound(tiny):
    setting = _setting(tiny + DP)
    one = _seen()
    assert (
        line_up.judge(setting, [Heard(one, line_up.ask(setting, one), unanswered("why"))], RNG).measures[0].bound
        is None
    )


def test_line_ups_over_the_same_rounds_count_once(fedsgd):
    setting = _setting(fedsgd.replace("batch_size = 4", "batch_size = 8"))
    heard = [Heard(s, line_up.ask(setting, s), unanswered("why")) for s in (_seen(1), _seen(2), _seen(1, (2,)))]
    assert line_up.judge(setting, heard, RNG).measures[0].count == 2


@pytest.mark.parametrize(
    ("defense", "noise"),
    [
        ({"kind": "clip-noise", "noise_multiplier": 2.0, "clip": 0.5}, 2.0),
        ({"kind": "flower-local-dp", "epsilon": 2.0, "delta": 0.05, "clip": 0.5}, 2 * math.sqrt(2 * math.log(25)) / 2),
    ],
)
def test_noise_on_whole_updates_bounds_what_any_number_of_local_steps_tells(tiny, defense, noise):
    keys = "".join(f"{key} = {value!r}\n" for key, value in defense.items())
    setting = _setting(tiny + "[[defenses]]\n" + keys)
    one = _seen(2)
    (told,) = line_up.judge(setting, [Heard(one, line_up.ask(setting, one), unanswered("why"))], RNG).measures
    assert told.bound == pytest.approx(reconstruction_bound(0.2, noise, 1.0, 2))


@pytest.mark.parametrize("defense", ['kind = "clip-noise"\nnoise_multiplier = 0.0\n', 'kind = "top-k"\n'])
def test_without_noise_there_is_no_bound(fedsgd, defense):
    setting = _setting(fedsgd + "[[defenses]]\n" + defense)
    one = _seen()
    finding = line_up.judge(setting, [Heard(one, line_up.ask(setting, one), unanswered("why"))], RNG)
    assert finding.measures[0].bound is None
