import pytest
import torch
from torch import nn

from fedinv.task.foreign.layers import layers, made_up
from fedinv.task.foreign.part import last_part
from fedinv.task.models import build, load, state
from fedinv.task.networks.perceptron import ACTIVATIONS


def part(network):
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return last_part(layers(network, made_up(network)), shapes)


def test_the_linear_layers_at_the_end_are_a_perceptron(pictures):
    found = part(pictures())
    assert [one.name for one in found.layers] == ["fc1", "fc2", "fc3"]
    assert (found.model.hidden, found.model.activation, found.fed, found.logits) == ((120, 84), "relu", "features", 10)
    assert found.model.kind == "mlp"


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "gelu", "tanh", "sigmoid"])
def test_every_activation_that_is_built_here_is_recognized_in_place_or_not(activation, inplace):
    made = ACTIVATIONS[activation]
    middle = made(inplace=True) if inplace and activation in ("relu", "leaky-relu") else made()
    network = nn.Sequential(nn.Linear(7, 24), middle, nn.Dropout(), nn.Linear(24, 3))
    found = part(network)
    assert (found.model.hidden, found.model.activation, found.fed) == ((24,), activation, "record")


def test_other_activations_norms_and_texts_end_the_chain(text):
    odd = nn.Sequential(nn.Linear(7, 24), nn.SELU(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))
    assert [one.name for one in part(odd).layers] == ["2", "4"]
    normed = nn.Sequential(nn.Linear(7, 24), nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, 3))
    assert [one.name for one in part(normed).layers] == ["3"]
    assert part(normed).model.kind == "logistic"
    assert [one.name for one in part(text()).layers] == ["out"]
    assert part(nn.Sequential(nn.Linear(7, 24, bias=False))) is None


@pytest.mark.parametrize(("logits", "loss"), [(1, nn.BCEWithLogitsLoss()), (3, nn.CrossEntropyLoss())])
def test_a_step_of_the_network_is_one_of_the_model(logits, loss):
    """Renamed, the weights and their change are those of a perceptron built here, one logit by two as well."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, logits))
    x, y = torch.randn(6, 5), torch.randint(0, max(2, logits), (6,))
    found = part(network)
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loss(network(x).squeeze(1) if logits == 1 else network(x), y.float() if logits == 1 else y).backward()
    update = {name: -0.1 * parameter.grad for name, parameter in network.named_parameters()}
    named, changed = found.rename(sent, update)
    ours = load(found.model, (5,), max(2, logits), {name: tensor.clone() for name, tensor in named.items()})
    assert list(state(ours)) == list(state(build(found.model, (5,), max(2, logits), 0)))
    nn.functional.cross_entropy(ours(x), y).backward()
    for name, parameter in ours.named_parameters():
        assert torch.allclose(changed[name], -0.1 * parameter.grad, atol=1e-7), name
