from dataclasses import replace

import numpy as np
import pytest
import torch

from fedinv.attack import Answer, Attack, Exchange, Observation, unanswered
from fedinv.judge.questions import Heard, Setting, attribute, labels, property
from fedinv.judge.truth import population_of, true_rows
from fedinv.scenario.reading import loads
from fedinv.storage.observations import trained

RNG = np.random.default_rng(0)


class Asking(Attack):
    kind: str = "asking"
    column: str | None = None
    value: str | None = None


@pytest.fixture
def setting(tiny):
    scenario = loads(tiny.replace("[attacker]\n", "[attacker]\nauxiliary = 20\n"))

    def of(**keys):
        return Setting(scenario, population_of(scenario), Asking(**keys), lambda: pytest.fail("no model is needed"))

    return of


def _seen(_, received):
    return Observation((1,), (Exchange(1, {"w": torch.zeros(1)}, received, 6),))


def test_the_asked_column_is_taken_out_and_nothing_else(setting):
    asked = setting(column="diagnosis")
    seen = _seen(asked, {"w": torch.zeros(1)})
    question = attribute.ask(asked, seen)
    schema = asked.people.table.schema
    at = schema.slices[schema.names.index("diagnosis")]
    truth = asked.people.inputs[true_rows(asked.scenario, asked.people, (1,), 1)]
    assert not question.people.records[:, at].any()
    rest = torch.ones(schema.width, dtype=torch.bool)
    rest[at] = False
    assert torch.equal(question.people.records[:, rest], truth[:, rest])
    assert torch.equal(question.options, torch.eye(8))


@pytest.mark.parametrize("column", ["diagnosis", "age"])
def test_right_answers_score_one_and_silence_the_guess(setting, column):
    asked = setting(column=column)
    seen = _seen(asked, {"w": torch.zeros(1)})
    question = attribute.ask(asked, seen)
    schema = asked.people.table.schema
    at = schema.slices[schema.names.index(column)]
    truth = asked.people.inputs[true_rows(asked.scenario, asked.people, (1,), 1)][:, at]
    scores = -torch.cdist(truth, question.options)
    told = attribute.judge(asked, [Heard(seen, question, Answer(scores))], RNG).measures
    assert told[0].value == 1.0
    assert (told[0].count, told[0].ci95[1]) == (6, 1.0)
    assert told[0].prior < 1
    assert told[0].guess
    silent = attribute.judge(asked, [Heard(seen, question, unanswered("why"))], RNG).measures
    assert silent[0].value == pytest.approx(silent[0].prior)


def test_with_auxiliary_records_the_guess_is_a_model_of_the_other_columns(tiny):
    text = tiny.replace("records = 200", "records = 600")
    scenario, plain = loads(text.replace("[attacker]\n", "[attacker]\nauxiliary = 100\n")), loads(text)
    asked = Setting(scenario, population_of(scenario), Asking(column="systolic"), lambda: pytest.fail("no model"))
    heard = [Heard(trained({"w": torch.zeros(1)}, 3, 4, 24), None, unanswered("why"))]
    informed = attribute.judge(asked, heard, RNG).measures[0]
    blind = attribute.judge(replace(asked, scenario=plain), heard, RNG).measures[0]
    assert "imputed from 100 auxiliary records" in informed.guess
    assert blind.guess == "the most likely value"
    assert informed.prior > blind.prior
    assert informed.value == informed.prior


def test_of_the_model_people_of_all_clients_are_asked_for(setting):
    asked = setting(column="sex")
    question = attribute.ask(asked, trained({"w": torch.zeros(1)}, 3, 4, 24))
    assert len(question.people) == 24


def test_label_counts_are_judged_by_what_they_share(setting):
    asked = setting()
    seen = _seen(asked, {"w": torch.zeros(1)})
    rows = true_rows(asked.scenario, asked.people, (1,), 1)
    truth = torch.bincount(asked.people.labels[rows], minlength=2).float()
    finding = labels.judge(asked, [Heard(seen, None, Answer(truth[None]))], RNG)
    assert finding.measures[0].value == 1.0
    off = truth + torch.tensor([1.0, -1.0])
    one_wrong = labels.judge(asked, [Heard(seen, None, Answer(off[None]))], RNG)
    assert one_wrong.measures[0].value == pytest.approx(5 / 6)


def test_a_share_is_judged_by_its_error(setting):
    asked = setting(column="sex", value="male")
    seen = _seen(asked, {"w": torch.zeros(1)})
    rows = true_rows(asked.scenario, asked.people, (1,), 1)
    schema = asked.people.table.schema
    truth = float((asked.people.table.columns["sex"][rows] == "male").mean())
    question = property.ask(asked, seen)
    assert question.options.argmax() == schema.columns[schema.names.index("sex")].values.index("male")
    told = property.judge(asked, [Heard(seen, question, Answer(torch.tensor([[truth + 0.1]])))], RNG).measures[0]
    assert told.value == pytest.approx(0.1, abs=1e-6)
    silent = property.judge(asked, [Heard(seen, question, unanswered("why"))], RNG).measures[0]
    assert silent.value == pytest.approx(silent.prior)
