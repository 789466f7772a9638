"""What every answer to a defense keeps: the functions of the protocol, pure, and a defense that exists."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fedinv import plugins
from fedinv.attack import Claim, Exchange
from server import countermeasures

from .conftest import flattened, observed

HOME = Path(countermeasures.__file__).parent
MODULES = {
    path.stem.replace("_", "-"): ".".join((countermeasures.__name__, *path.relative_to(HOME).with_suffix("").parts))
    for path in HOME.rglob("[!_]*.py")
}
KINDS = tuple(sorted(MODULES))
PROTOCOL = set(re.findall(r"^(\w+)\(", countermeasures.__doc__, re.M))


def functions(kind):
    """The public functions of a defense's answer, those taken over from another answer among them."""
    module = import_module(MODULES[kind])
    return {name: member for name, member in vars(module).items() if inspect.isfunction(member) and _answers(member)}


def _answers(function):
    """Whether a function is of a file that answers a defense, and not of what such files share."""
    return function.__module__ in MODULES.values() and not function.__name__.startswith("_")


def arguments(function, kind):
    """What a function is called with, by its parameters' names: the same values whenever it is called."""
    seen, knows = observed(defenses=(kind,))
    count = seen.last.records
    claim = Claim(knows.schema.draw(count, np.random.default_rng(1)), torch.ones(count), torch.zeros(count).long())
    given = {
        "last": seen.last,
        "seen": seen,
        "defense": knows.defense(kind),
        "knows": knows,
        "claim": claim,
        "rng": np.random.default_rng(2),
    }
    return {name: given[name] for name in inspect.signature(function).parameters}


CASES = [(kind, name) for kind in KINDS for name in functions(kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_to_a_defense_that_exists_and_has_functions_of_the_protocol_alone(kind):
    assert kind in plugins.available("defenses")
    module = import_module(MODULES[kind])
    assert bool(functions(kind)) != bool(getattr(module, "NOTHING_TO_ADAPT_TO", "")), (
        f"{kind}: answers it, or says why not"
    )
    assert set(functions(kind)) <= PROTOCOL == set(countermeasures.WAYS)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_an_answer_is_a_function_of_what_it_is_given_and_changes_none_of_it(kind, name):
    function = functions(kind)[name]
    found = []
    for run in (1, 2):
        torch.manual_seed(run)  # nothing may come from the global generators
        np.random.seed(run)  # noqa: NPY002
        given = arguments(function, kind)
        before = flattened({key: value for key, value in given.items() if key != "rng"})
        found.append(function(**given))
        assert flattened({key: value for key, value in given.items() if key != "rng"}) == before
    assert flattened(found[0]) == flattened(found[1])


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_an_answer_returns_what_the_protocol_says(kind, name):
    function = functions(kind)[name]
    given = arguments(function, kind)
    found, received = function(**given), observed(defenses=(kind,))[0].last.received
    written = re.search(rf"^{name}\(.*?\) -> (.*?)\s{{2,}}", countermeasures.__doc__, re.M).group(1)
    if written == "dict[str, Tensor]":
        assert found.keys() <= received.keys()
        assert all(t.dtype == torch.bool and t.shape == received[n].shape for n, t in found.items())
    elif written == "Exchange":
        assert isinstance(found, Exchange)
        assert {n: t.shape for n, t in found.received.items()} == {n: t.shape for n, t in received.items()}
    elif written == "Claim":
        assert isinstance(found, Claim)
        assert found.records.shape[1] == given["claim"].records.shape[1]
        assert len(found.records) == len(found.confidence)
    elif written == "float":
        assert isinstance(found, float)
        assert np.isfinite(found)
        assert found >= 0
    else:
        assert written == "bool"
        assert isinstance(found, bool)
    assert not isinstance(found, Tensor)
