import pytest
import torch

from clients import local, stacked
from clients.cohort import Cohort, why_alone
from fedinv import wire
from fedinv.data.population import population
from fedinv.models import build, state
from fedinv.scenario import loads

TEXT = """
name = "ragged"
seed = 5
[data]
source = "hospital"
records = 300
partition = { kind = "quantity", exponent = 1.0 }
[model]
kind = "mlp"
hidden = [12, 7]
[federation]
clients = 9
rounds = 2
[training]
algorithm = "fedavg"
epochs = 2
batch_size = 8
lr = 0.1
"""
DP = '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 0.7\nclip = 0.5\n'
DROPOUT = '[[defenses]]\nkind = "dropout"\nrate = 0.4\n'


def setting(text):
    scenario = loads(text)
    people = population(scenario.data, scenario.seed, scenario.federation.clients, None)
    network = build(scenario.model, people.schema.shape, people.schema.outputs, scenario.seed)
    return scenario, people, wire.pack(state(network))


def apart(one, other):
    assert list(one) == list(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    ("old", "new", "defenses"),
    [
        ("", "", ""),
        ("lr = 0.1", "lr = 0.1\nmomentum = 0.9", ""),
        ("lr = 0.1", "lr = 0.1\nweight_decay = 0.2", ""),
        ("lr = 0.1", "lr = 0.1\nmomentum = 0.9\nweight_decay = 0.2", DP),
        ('"fedavg"', '"fedsgd"', ""),
        ('"fedavg"', '"fedsgd"', DP),
        ("[12, 7]", '[12, 7]\nactivation = "gelu"', ""),
        ("[12, 7]", '[12, 7]\nactivation = "tanh"', DROPOUT),
        ("[12, 7]", '[9]\nactivation = "sigmoid"', DP),
        ("[12, 7]", '[9]\nactivation = "leaky-relu"', ""),
        ('"mlp"\nhidden = [12, 7]', '"logistic"', ""),
        ('"mlp"\nhidden = [12, 7]', '"logistic"', DP),
        ("", "", DROPOUT),
        ("", "", DP.replace("noise_multiplier = 0.7", "epsilon = 5.0")),
        ("", "", DP.replace("noise_multiplier = 0.7", "noise_multiplier = 0.0")),
        ("", "", DP + 'mode = "hooks"\n'),
    ],
)
def test_clients_trained_together_are_as_if_trained_one_by_one(old, new, defenses, monkeypatch):
    scenario, people, arrays = setting(TEXT.replace(old, new) + defenses)
    assert why_alone(scenario) is None
    sizes = {people.held(client) for client in range(9)}
    assert len(sizes) > 5
    monkeypatch.setattr(stacked, "CHUNK_BYTES", 4 * sum(t.numel() for t in wire.unpack(arrays).values()) * 4)
    cohort = Cohort(scenario, torch.device("cpu"))
    everyone = list(range(9))
    for round_ in (1, 2):
        for client in everyone:
            together = cohort.update(client, round_, everyone, arrays)
            by_itself = local.train(scenario, people, client, round_, wire.unpack(arrays))
            assert max(float(t.abs().max()) for t in by_itself.values()) > 1e-3
            assert apart(together, by_itself) <= 1e-5
