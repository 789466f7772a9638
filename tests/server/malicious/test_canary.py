import json

import numpy as np
import pytest
import torch

from fedinv.attack import Knowledge, Observation, Question, Sample
from fedinv.deviation import Turn
from fedinv.errors import RequestError
from fedinv.runs.run import run
from fedinv.scenario.reading import read
from fedinv.task.networks.perceptron import Logistic, Mlp
from server.attacks.inference.presence import Presence
from server.malicious.canary import Canary

SETTINGS = (
    "data.records=700",
    "federation.clients=4",
    "federation.rounds=3",
    "training.records_per_client=20",
    'training.algorithm="fedsgd"',
    "training.batch_size=20",
    'model={kind="mlp",hidden=[256,32]}',
    'defenses=[{kind="masking"}]',
    'server={kind="malicious",deviations=[{kind="canary"}]}',
    "attacker.watch={rounds=[1,2,3],clients=1}",
)


def test_members_of_a_secure_sum_are_found_and_nobody_else(tmp_path):
    scenario = read("hospital", [*SETTINGS, 'attacks=[{kind="presence"}]'])
    found = run(scenario, tmp_path)
    assert found.inferences
    masked = next(one for one in found.inferences if one.target == "sum")
    assert masked.asks == "membership"
    values = {one.name: one.value for one in masked.measures}
    assert values["AUC of members against others"] > 0.99
    assert json.loads((tmp_path / "results.json").read_text())


def test_without_anybody_to_ask_about_the_scenario_is_refused():
    with pytest.raises(RequestError, match="nobody to ask about"):
        read("hospital", SETTINGS)


def test_what_does_not_fit_is_named(play):
    assert "ReLU" in Canary().misfit(Mlp(activation="tanh"))
    assert "perceptron" in Canary().misfit(Logistic())
    assert Canary().misfit(Mlp(hidden=(8,))) is None
    with pytest.raises(ValueError, match="schema is withheld"):
        Canary().craft({"0.weight": torch.ones(2, 2)}, Knowledge(), Turn(0, 1, (0,), (0,)), None)


def test_honest_weights_hold_no_canary(play):
    found = play([Canary()], each=8, hidden=(32, 32))
    asked = Question(people=Sample(found.records, found.labels))
    seen = Observation((0,), found.exchanges)
    answer = Presence().run(seen, Knowledge(question=asked), np.random.default_rng(0), lambda share: None)
    assert len(answer.scores) == 0
    assert "no canaries" in answer.notes[0]
