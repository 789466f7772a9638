import pytest

from fedinv.defense_terms import model_keys, with_model_keys
from fedinv.task.models import DEFAULT


@pytest.mark.parametrize("kind", ["top-k", "quantize", "secagg-plus", "../precode", "", None, 3])
def test_a_defense_without_the_hook_sets_no_key(kind):
    assert model_keys({"kind": kind}) == {}


def test_the_keys_of_a_defense_are_put_into_the_model_that_is_there_or_into_the_default():
    defenses = [{"kind": "top-k"}, {"kind": "precode", "width": 5}]
    given = {"defenses": defenses, "model": {"kind": "logistic"}}
    assert with_model_keys(given)["model"] == {"kind": "logistic", "bottleneck": 5}
    assert given["model"] == {"kind": "logistic"}
    assert with_model_keys({"defenses": defenses})["model"] == {"kind": DEFAULT.kind, "bottleneck": 5}


@pytest.mark.parametrize(
    "document", [3, {}, {"defenses": "precode"}, {"defenses": [7]}, {"defenses": [{"kind": "precode"}], "model": 3}]
)
def test_what_declares_no_such_defense_is_left_as_it_is(document):
    assert with_model_keys(document) == document
