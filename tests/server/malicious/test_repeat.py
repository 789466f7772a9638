import numpy as np
import pytest
import torch

from fedinv.engines.inline import train
from fedinv.errors import RequestError
from fedinv.privacy.claims import claim
from fedinv.scenario.reading import loads
from fedinv.storage import files, observations

DP = '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 1.0\nclip = 1.0\n'


def test_a_malicious_server_sends_the_same_weights_and_epsilon_grows(tiny, tmp_path):
    text = tiny.replace("watch = { rounds = [1, 2], clients = 2 }", "watch = { rounds = [1, 2, 3], clients = 1 }")
    text = text.replace('"fedavg"', '"fedsgd"').replace("batch_size = 4", "batch_size = 8")
    scenario = loads(text + '[server]\nkind = "malicious"\nrepeat = 2\n' + DP)
    train(scenario, tmp_path)
    first, second, third = (o.last for o in observations.read(tmp_path / "observations"))
    assert all(torch.equal(first.sent[k], second.sent[k]) for k in first.sent)
    assert not all(torch.equal(first.sent[k], third.sent[k]) for k in first.sent)
    assert not all(torch.equal(first.received[k], second.received[k]) for k in first.received)
    clients = files.read_json(tmp_path / "ledger.json")["clients"]
    spent = claim(clients, ["dp-sgd"]).epsilon
    once = claim({"0": [{**clients["0"][0], "steps": 1}]}, ["dp-sgd"]).epsilon
    assert sum(event["steps"] for event in clients["0"]) == 3
    assert spent > 1.5 * once
    assert np.isfinite(spent)


def test_a_curious_server_cannot_repeat(tiny):
    with pytest.raises(RequestError, match="repeat.*malicious") as caught:
        loads(tiny + "[server]\nrepeat = 2\n")
    assert "\n" not in str(caught.value)
