import pytest
import torch

from fedinv.task.columns import Continuous
from fedinv.task.models import build, load, state
from fedinv.task.networks.convolutional import Convnet, Lenet
from fedinv.task.networks.perceptron import Logistic, Mlp
from fedinv.task.schema import Schema

ALL = [Mlp(hidden=(8,)), Logistic(), Lenet(), Convnet(channels=(4, 6)), Convnet(channels=(4, 6), norm="batch")]


@pytest.mark.parametrize("model", ALL, ids=str)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 9, 14)])
def test_every_model_reads_flat_images_of_any_size(model, shape):
    network = build(model, shape, 5, seed=1)
    assert network(torch.randn(3, torch.Size(shape).numel())).shape == (3, 5)


@pytest.mark.parametrize("model", ALL, ids=str)
def test_weights_depend_on_the_seed_alone_and_survive_loading(model):
    before = torch.get_rng_state()
    network, other = build(model, (1, 8, 8), 3, 1), build(model, (1, 8, 8), 3, 2)
    assert torch.equal(before, torch.get_rng_state())
    assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    inputs = torch.randn(4, 64)
    again = load(model, (1, 8, 8), 3, {name: t.clone() for name, t in state(network).items()})
    assert torch.equal(again(inputs), network(inputs))
    assert torch.equal(again.eval()(inputs), network.eval()(inputs))
    with pytest.raises(RuntimeError):
        load(model, (1, 8, 8), 4, state(network))


def test_what_travels_are_parameters_and_float_statistics():
    names = list(state(build(Convnet(channels=(4,), norm="batch"), (1, 8, 8), 2, 0)))
    assert names == [
        "1.weight",
        "1.bias",
        "2.weight",
        "2.bias",
        "2.running_mean",
        "2.running_var",
        "6.weight",
        "6.bias",
    ]
    assert all(t.dtype == torch.float32 for t in state(build(Convnet(norm="batch"), (1, 8, 8), 2, 0)).values())


def test_the_networks_are_the_papers_in_size():
    def count(model):
        return sum(p.numel() for p in build(model, (3, 32, 32), 10, 0).parameters())

    # Zhu et al. 2019: (3 * 25 + 1) * 12 + 2 * (12 * 25 + 1) * 12 and a linear layer of 768 inputs
    assert count(Lenet()) == 912 + 7224 + 7690
    assert count(Convnet()) == 245_962


def test_lenets_weights_begin_uniform_so_that_gradients_do_not_fade():
    weights = torch.cat([p.detach().flatten() for p in build(Lenet(), (1, 32, 32), 10, 0).parameters()])
    assert float(weights.abs().max()) <= 0.5
    assert float(weights.std()) == pytest.approx(12**-0.5, rel=0.02)


@pytest.mark.parametrize(("name", "layer"), [("gelu", torch.nn.GELU), ("tanh", torch.nn.Tanh), ("relu", torch.nn.ReLU)])
def test_an_mlps_activation_is_its_choice(name, layer):
    assert isinstance(build(Mlp(hidden=(4,), activation=name), (3,), 2, 0)[1], layer)


@pytest.mark.parametrize("model", [Lenet(), Convnet()])
def test_what_is_no_image_is_refused_in_words(model):
    with pytest.raises(ValueError, match="reads images, and these records are 30 numbers without a shape"):
        build(model, (30,), 2, 0)
    with pytest.raises(ValueError, match="at least 8 x 8 pixels, not 4 x 9"):
        build(model, (1, 4, 9), 2, 0)


@pytest.mark.parametrize("model", [Mlp(hidden=(4,)), Logistic(), Lenet(), Convnet(channels=(4,))])
def test_a_model_that_needs_a_records_shape_alone_is_not_changed_by_the_schema(model):
    table = Continuous(name="age", mean=0, std=1, low=0, high=1, mode=0)
    assert model.fitted(Schema(columns=(table,), label="y", classes=("a", "b"))) is model
