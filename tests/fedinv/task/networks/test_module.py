import sys

import pytest
import torch

from fedinv.runs import sizes
from fedinv.scenario.reading import loads, read
from fedinv.task.models import build, load, perceptron, shapes, state
from fedinv.task.networks.module import Module
from fedinv.task.networks.perceptron import Mlp

NETWORKS = """
import torch
from torch import nn


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.second, self.first = nn.Linear(8, 2), nn.Linear(32, 8), nn.Linear(63, 32)

    def forward(self, x):
        return self.out(torch.relu(self.second(torch.relu(self.first(x)))))


class Normed(Chain):
    def __init__(self):
        super().__init__()
        self.norm = self.made()

    def made(self):
        return nn.LayerNorm(32)

    def forward(self, x):
        return self.out(torch.relu(self.second(torch.relu(self.norm(self.first(x))))))


class Mixed(Normed):
    def made(self):
        return nn.BatchNorm1d(32)


class Dropped(Normed):
    def made(self):
        return nn.Dropout(0.5)


class Scaled(Chain):
    def forward(self, x):
        return super().forward(2 * x + 1)


class Doubled(Chain):
    def forward(self, x):
        return 2 * super().forward(x)


class Positions(Chain):
    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.arange(63).flip(0))
        self.scale = torch.full((63,), 3.0)

    def forward(self, x):
        return super().forward(self.scale * x[:, self.order])


class Frozen(Chain):
    def __init__(self):
        super().__init__()
        self.first.weight.requires_grad_(False)


class Tied(Chain):
    def __init__(self):
        super().__init__()
        self.again = self.second


class Unused(Chain):
    def __init__(self):
        super().__init__()
        self.left_out = nn.Linear(3, 3)


class Pair(Chain):
    def forward(self, x):
        return super().forward(x), x


class Pictures(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 10)

    def forward(self, x):
        return self.out(self.conv(x).relu().flatten(1))


def narrow():
    return nn.Linear(5, 2)


def single():
    return nn.Sequential(nn.Linear(63, 8), nn.ReLU(), nn.Linear(8, 1))


def rows():
    return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))


def needs(width):
    return nn.Linear(width, 2)


def broken():
    raise OSError("no such weights")


nothing = 3
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "their_networks.py").write_text(NETWORKS, encoding="utf-8")
    yield folder
    sys.modules.pop("their_networks", None)


@pytest.fixture
def module(project):
    return lambda name: Module(factory=f"their_networks:{name}", project=str(project))


def as_module(text, project, name, more=""):
    own = f'kind = "module"\nfactory = "their_networks:{name}"\nproject = "{project}"\n{more}'
    return text.replace('kind = "mlp"\nhidden = [32, 16]\n', own)


@pytest.mark.parametrize(
    ("name", "shape", "outputs"), [("Chain", (63,), 2), ("Mixed", (63,), 2), ("rows", (1, 8, 8), 10)]
)
def test_weights_depend_on_the_seed_alone_and_survive_loading(module, name, shape, outputs):
    before, model = torch.get_rng_state(), module(name)
    network, other = build(model, shape, outputs, 1), build(model, shape, outputs, 2)
    assert not torch.equal(next(network.parameters()), next(other.parameters()))
    inputs = torch.randn(4, 64)[:, : torch.Size(shape).numel()]
    again = load(model, shape, outputs, {name: t.clone() for name, t in state(network).items()})
    assert torch.equal(again(inputs), network(inputs))
    assert shapes(model, shape, outputs) == {name: tuple(t.shape) for name, t in state(network).items()}
    torch.set_rng_state(before)
    shapes(module(name).model_copy(), shape, outputs)
    assert torch.equal(before, torch.get_rng_state())


def test_images_are_read_as_images(module):
    network = build(module("Pictures"), (1, 8, 8), 10, 0)
    assert network(torch.randn(3, 64)).shape == (3, 10)


def test_buffers_of_whole_numbers_and_tensors_that_are_neither_stay_the_factorys(module):
    network = build(module("Positions"), (63,), 2, 0)
    again = load(module("Positions"), (63,), 2, {name: t.clone() for name, t in state(network).items()})
    inputs = torch.randn(4, 63)
    assert torch.equal(again(inputs), network(inputs))


def test_a_network_that_is_a_perceptron_as_a_whole_is_known_as_one_by_its_own_names(module):
    model = module("Chain")
    found = perceptron(model)
    assert (found, model.no_perceptron) == (Mlp(hidden=(32, 8), activation="relu"), None)
    network = build(model, (63,), 2, 5)
    assert next(iter(state(network))) == "0.out.weight"  # named in another order than the layers run
    inputs = torch.randn(4, 63)
    ours = load(found, (63,), 2, model.renamed(state(network)))
    assert torch.allclose(ours(inputs), network(inputs), atol=1e-6)
    assert model.renamed({}) == {}
    pictured = build(module("rows"), (1, 8, 8), 10, 0)
    assert list(module("rows").renamed(state(pictured))) == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Normed", "its LayerNorm norm is no linear layer"),
        ("Mixed", "its BatchNorm1d norm is no linear layer"),
        ("Dropped", "its training depends on chance: norm (Dropout)"),
        ("Scaled", "its first linear layer first is not fed by the record itself"),
        ("Doubled", "it does more than its linear layers"),
        ("Pictures", "its Conv2d conv is no linear layer"),
    ],
)
def test_any_other_network_stays_what_it_is_with_the_reason(module, name, why):
    model = module(name)
    assert perceptron(model) is model
    assert model.no_perceptron.startswith(why)
    weights = {"0.first.weight": torch.zeros(1)}
    assert model.renamed(weights) == weights


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("narrow", r"does not read records of the shape \(63,\)"),
        ("single", r"gives the shape \(2, 1\) for two records, and the data need \(2, 2\), one logit a class"),
        ("needs", "cannot be called without arguments"),
        ("broken", "failed: OSError: no such weights"),
        ("nothing", "is a int, name a class or a function"),
        ("Chian", "has no 'Chian'.*Chain"),
        ("Frozen", "the parameter first.weight is frozen"),
        ("Tied", "the parameter again.bias is another parameter as well"),
        ("Unused", "outputs do not depend on the parameter left_out.weight"),
        ("Pair", "gives a tuple, not a tensor of logits"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_trained(module, tiny, project, name, said):
    from fedinv import roles
    from fedinv.errors import RequestError

    scenario = loads(as_module(tiny, project, name))
    people = roles.load("clients", "training.job").population_of(scenario)
    with pytest.raises(RequestError, match=rf"^model\.factory: their_networks.*{said}") as raised:
        sizes.parameters(scenario, people)
    assert "\n" not in str(raised.value)


def test_batch_normalization_is_refused_beside_clipping_by_record(tiny, project):
    private = '[[defenses]]\nkind = "dp-sgd"\n'
    loads(as_module(tiny, project, "Normed") + private)
    with pytest.raises(Exception, match=r"norm of their_networks:Mixed mixes the records of a batch"):
        loads(as_module(tiny, project, "Mixed") + private)


def test_the_project_is_that_of_the_scenarios_folder_or_the_current_one(tiny, project, tmp_path, monkeypatch):
    (project / "mine.toml").write_text(as_module(tiny, ".", "Chain"), encoding="utf-8")
    assert read(str(project / "mine.toml")).model.project == str(project)
    assert read(str(project / "mine.toml"), ["model.project=.."]).model.project == str(project.parent)
    monkeypatch.chdir(project)
    here = loads(as_module(tiny, "", "Chain").replace('project = ""\n', ""))
    assert here.model.project == str(project)
    assert loads(here.to_toml()).model == here.model
