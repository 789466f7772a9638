import sys

import pytest
import torch

from fedinv.errors import RequestError
from fedinv.task.foreign.factory import load_example, load_network

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 2)

def build():
    return nn.Sequential(nn.Linear(5, 2))

def sized(width):
    return nn.Linear(width, 2)

def broken():
    raise KeyError("weights")

ready = nn.Linear(2, 2)
example = torch.zeros(4, 3)
single = torch.zeros(1, 3)
number = 3

def batch():
    return torch.ones(2, 3), torch.zeros(2)
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "anapp").mkdir()
    (tmp_path / "anapp" / "__init__.py").write_text("")
    (tmp_path / "anapp" / "task.py").write_text(CODE)
    (tmp_path / "anapp" / "needs.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "anapp" / "wrong.py").write_text("1 / 0\n")
    yield tmp_path
    for name in [one for one in sys.modules if one.split(".")[0] == "anapp"]:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "inputs"), [("Net", 3), ("build", 5), ("ready", 2)])
def test_a_class_a_function_and_a_network_are_taken(project, name, inputs):
    path = list(sys.path)
    network = load_network(f"anapp.task:{name}", project)
    assert next(network.parameters()).shape[1] == inputs
    assert sys.path == path


def test_weights_do_not_depend_on_what_was_drawn_before(project):
    one = load_network("anapp.task:Net", project)
    state = torch.get_rng_state()
    torch.rand(7)
    other = load_network("anapp.task:Net", project)
    torch.set_rng_state(state)
    assert torch.equal(one.first.weight, other.first.weight)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("anapp.task", "names no object, write module:name"),
        ("anap.task:Net", "anap.task cannot be imported: there is no module 'anap' in "),
        ("anapp.needs:Net", "there is no module 'nowhere_to_be_found'"),
        ("anapp.wrong:Net", "anapp.wrong cannot be imported: ZeroDivisionError"),
        ("anapp.task:Nett", r"anapp.task has no 'Nett' \(did you mean 'Net'\?\)"),
        ("anapp.task:sized", "cannot be called without arguments"),
        ("anapp.task:broken", "anapp.task:broken failed: KeyError"),
        ("anapp.task:number", "is a int, name a class or a function"),
        ("anapp.task:batch", "gives a tuple, not a torch.nn.Module"),
    ],
)
def test_a_factory_that_makes_no_network_is_one_line(project, spec, said):
    with pytest.raises(RequestError, match="--network: .*" + said) as caught:
        load_network(spec, project)
    assert "\n" not in str(caught.value)


def test_an_example_is_a_batch_of_inputs(project):
    assert load_example("anapp.task:example", project).shape == (4, 3)
    assert torch.equal(load_example("anapp.task:batch", project), torch.ones(2, 3))
    with pytest.raises(RequestError, match=r"gives the shape \(1, 3\), not a batch of two records or more"):
        load_example("anapp.task:single", project)
    with pytest.raises(RequestError, match="gives a int, not a tensor of inputs"):
        load_example("anapp.task:number", project)
    with pytest.raises(RequestError, match="--example: anapp.task:broken failed: KeyError"):
        load_example("anapp.task:broken", project)
