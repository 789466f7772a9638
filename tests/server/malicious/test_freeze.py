import pytest
import torch

from fedinv.attack import Knowledge
from fedinv.deviation import Turn
from fedinv.task.networks.perceptron import Logistic, Mlp
from server.malicious.freeze import Freeze

FEDAVG = {"algorithm": "fedavg", "epochs": 5, "batch_size": 8, "lr": 0.5}


def test_records_of_long_local_training_are_read_to_every_digit(play):
    frozen = play([Freeze(scale=0.02)], each=16, hidden=(256, 256), **FEDAVG)
    right, false = frozen.recovered()
    assert right >= 15
    assert false == 0


def test_every_layer_hardly_moves(play):
    one = play([Freeze(scale=0.02)], each=4, hidden=(64, 64), **FEDAVG).exchanges[0]
    moved = {name: float(one.received[name].norm() / one.sent[name].norm()) for name in one.sent if "weight" in name}
    assert max(moved.values()) < 0.25


def test_the_same_units_fire(play):
    model = play([Freeze(scale=0.5)], each=8).exchanges[0].sent
    small = Freeze(scale=0.1).craft(model, Knowledge(), Turn(0, 1, (0,), (0,)), None)
    x = torch.randn(50, model["0.weight"].shape[1], generator=torch.Generator().manual_seed(0))
    one, other = (torch.relu(x @ w["0.weight"].T + w["0.bias"]) @ w["2.weight"].T + w["2.bias"] for w in (model, small))
    assert torch.allclose(one / 100, other, atol=1e-6)


def test_what_does_not_fit_is_named(play):
    assert "ReLU" in Freeze().misfit(Mlp(activation="tanh"))
    assert "perceptron" in Freeze().misfit(Logistic())
    assert Freeze().misfit(Mlp()) is None
    model = play([Freeze(scale=0.5)], each=8).exchanges[0].sent
    with pytest.raises(ValueError, match="no scale is given"):
        Freeze().craft(model, Knowledge(), Turn(0, 1, (0,), (0,)), None)
