import numpy as np
import torch

from fedinv import plugins
from fedinv.federation.agreement import Agreement
from fedinv.scenario.reading import loads
from fedinv.storage.documents import loads as document
from fedinv.task.models import build, load, state
from fedinv.task.networks.bottleneck import Bottleneck, penalty
from fedinv.task.networks.perceptron import Mlp

Precode = plugins.load("defenses", "precode")
MODEL = Mlp(hidden=(8,), bottleneck=4)


def test_the_scenario_and_the_server_agree_on_the_model_and_undefended_it_is_as_before(tiny):
    text = tiny + '[[defenses]]\nkind = "precode"\nwidth = 5\n'
    scenario = loads(text)
    assert scenario.model.bottleneck == 5
    assert Agreement.model_validate(document(text, "x")).model == scenario.model
    assert loads(scenario.to_toml()) == scenario
    assert scenario.undefended().model == loads(tiny).model


def test_training_draws_by_the_clients_generator_and_evaluation_passes_the_mean():
    inputs, net = torch.randn(3, 6), build(MODEL, (6,), 2, seed=1)
    weights = {name: tensor.clone() for name, tensor in state(net).items()}
    one, two, other = (
        Precode(width=4).wrap_network(load(MODEL, (6,), 2, dict(weights)), np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one(inputs), two(inputs))
    assert not torch.equal(one(inputs), other(inputs))
    assert torch.equal(one.eval()(inputs), net.eval()(inputs))


def test_the_divergence_of_a_standard_normal_is_nothing_and_of_others_something():
    layer = Bottleneck(3, 2)
    layer.generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in layer.encode.parameters():
            part.zero_()
        layer.encode.bias[2:] = torch.tensor(1.0).expm1().log()  # softplus of it is 1
        layer(torch.randn(5, 3))
        assert abs(float(penalty(layer))) < 1e-6
        layer.encode.bias[:2] = 2.0
        layer(torch.randn(5, 3))
        assert abs(float(penalty(layer)) - 1e-3 * 4.0) < 1e-6
