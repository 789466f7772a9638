import numpy as np
import pytest
import torch

from fedinv import plugins
from fedinv.errors import RequestError
from fedinv.scenario.reading import loads
from fedinv.task.models import build, state
from fedinv.task.networks.convolutional import Lenet
from fedinv.task.networks.perceptron import Mlp

Soteria = plugins.load("defenses", "soteria")


def gradients(network, inputs):
    loss = torch.nn.functional.cross_entropy(network(inputs), torch.arange(len(inputs)) % 3)
    return dict(
        zip(dict(network.named_parameters()), torch.autograd.grad(loss, list(network.parameters())), strict=True)
    )


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_the_defended_layers_weight_alone_learns_from_something_else(layer):
    inputs = torch.randn(5, 6)
    plain = build(Mlp(hidden=(7, 8)), (6,), 3, seed=1)
    defended = Soteria(layer=layer, prune=0.5).wrap_network(build(Mlp(hidden=(7, 8)), (6,), 3, seed=1), None)
    assert list(state(defended)) == list(state(plain))
    assert torch.allclose(defended(inputs), plain(inputs))
    one, two = gradients(plain, inputs), gradients(defended, inputs)
    changed = {name for name in one if not torch.allclose(one[name], two[name], atol=1e-7)}
    assert changed == {["0.weight", "2.weight", "4.weight"][layer]}


def test_the_entries_that_tell_most_are_taken_out():
    inputs = torch.tensor([[3.0, -0.1, 0.5, -4.0]])
    network = Soteria(layer=0, prune=0.5).wrap_network(build(Mlp(hidden=(7,)), (4,), 3, seed=1), None)
    moved = gradients(network, inputs)["0.weight"].abs().sum(0)
    assert (moved > 0).tolist() == [False, True, True, False]


def test_it_defends_what_convolutions_make_of_an_image():
    network = Soteria(prune=0.5).wrap_network(build(Lenet(), (1, 8, 8), 3, seed=1), None)
    found = gradients(network, torch.rand(2, 64))
    assert bool(found[next(name for name in reversed(found) if name.endswith("weight"))].any())


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="none of the 2 linear layers"):
        Soteria(layer=2).wrap_network(build(Mlp(hidden=(7,)), (4,), 3, seed=1), np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["soteria", "precode", "mixup"])
def test_it_is_refused_where_each_records_gradient_is_clipped(tiny, kind):
    with pytest.raises(RequestError, match="clip"):
        loads(tiny + f'[[defenses]]\nkind = "{kind}"\n[[defenses]]\nkind = "dp-sgd"\n')
