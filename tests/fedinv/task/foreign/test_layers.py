import pytest
import torch
from torch import nn

from fedinv.errors import RequestError
from fedinv.task.foreign.layers import layers, made_up, random_parts


def seen(network, example=None):
    found = layers(network, made_up(network) if example is None else example)
    return {one.name: (one.kind, one.fed, one.gate, one.places) for one in found}


def test_what_feeds_and_gates_each_layer_is_found_by_running_it(pictures):
    assert seen(pictures()) == {
        "conv1": ("Conv2d", "record", "relu, pooled", 28 * 28),
        "conv2": ("Conv2d", "features", "relu, pooled", 100),
        "fc1": ("Linear", "features", "relu", 1),
        "fc2": ("Linear", "features", "relu", 1),
        "fc3": ("Linear", "features", "last", 1),
    }


@pytest.mark.parametrize(
    ("activation", "gate"), [(nn.ReLU, "relu"), (nn.Tanh, "smooth"), (nn.GELU, "smooth"), (nn.LeakyReLU, "smooth")]
)
def test_a_perceptron_is_fed_by_the_record_and_gated_by_its_activation(activation, gate):
    network = nn.Sequential(nn.Linear(6, 32), activation(), nn.Linear(32, 1), nn.Sigmoid())
    assert seen(network) == {"0": ("Linear", "record", gate, 1), "2": ("Linear", "features", "last", 1)}


def test_a_scaled_record_is_an_affine_map_of_it_and_a_batch_normalization_mixes_records():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)

        def forward(self, x):
            return self.last(torch.relu(self.norm(self.first(2 * x - 1))))

    found = {one.name: one for one in layers(Scaled(), torch.randn(6, 4))}
    assert found["first"].fed == "affine of the record"
    assert [found[name].mixed for name in ("first", "norm", "last")] == [False, False, True]


def test_words_a_module_of_several_weights_and_one_that_never_runs_are_there(text):
    found = {one.name: one for one in layers(text(), made_up(text()))}
    assert (found["words"].fed, found["words"].places) == ("record", 16)
    assert found["read"].weight == "read.weight_ih_l0"
    assert found["out"].gate == "last"
    assert (found["spare"].fed, found["spare"].gate) == ("unknown", "unknown")


def test_a_module_of_modules_is_unknown():
    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.out = nn.Parameter(torch.zeros(4)), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(x + self.token)

    found = {one.name: one for one in layers(Token(), torch.randn(4, 4))}
    assert (found[""].weight, found[""].fed, found[""].gate) == ("token", "unknown", "unknown")


def test_the_network_and_the_generator_are_left_as_they_were():
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)).eval()
    network[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.get_rng_state()
    layers(network, made_up(network))
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert not network[0].weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert random_parts(network) == ("2 (Dropout)",)


def test_where_no_record_can_be_made_up_or_the_example_does_not_fit_it_is_said():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 2)

        def forward(self, x):
            return self.first(x["numbers"])

    with pytest.raises(RequestError, match="no made-up records fit the network: give an example batch"):
        made_up(Odd())
    with pytest.raises(RequestError, match=r"does not accept an example of the shape \(3, 9\): RuntimeError"):
        layers(nn.Linear(4, 2), torch.zeros(3, 9))
