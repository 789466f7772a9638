import pytest
import torch
from torch import nn
from torch.nn import functional

from fedinv.errors import RequestError
from fedinv.task.foreign.layers import layers, made_up, random_parts


class Pictures(nn.Module):
    """Two convolutions and three linear layers, whose activations are functions, not modules."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(functional.relu(self.conv2(self.pool(functional.relu(self.conv1(x))))))
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x.flatten(1))))))


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.read = nn.Embedding(50, 8), nn.LSTM(8, 12, batch_first=True)
        self.out, self.spare = nn.Linear(12, 2), nn.Linear(3, 3)

    def forward(self, x):
        return {"logits": self.out(self.read(self.words(x))[0][:, -1])}


def seen(network, example=None):
    found = layers(network, made_up(network) if example is None else example)
    return {one.name: (one.kind, one.fed, one.gate, one.places) for one in found}


def test_what_feeds_and_gates_each_layer_is_found_by_running_it():
    assert seen(Pictures()) == {
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


def test_words_a_module_of_several_weights_and_one_that_never_runs_are_there():
    found = {one.name: one for one in layers(Text(), made_up(Text()))}
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
