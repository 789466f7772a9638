"""Sizes that no machine has are refused before anything is made, and name what to lower."""

import pytest

from fedinv.errors import RequestError
from fedinv.judge.truth import population_of
from fedinv.runs import run, sizes
from fedinv.scenario.reading import loads


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rounds = 3", "rounds = 1000000000000", r"federation.rounds: this would take at least [\d.e+]+ years"),
        ("epochs = 2", "epochs = 1000000000000000", "training.epochs or model.hidden"),
        (
            "[32, 16]",
            "[1000000, 1000000]",
            r"model.hidden: this would take at least [\d.]+ TiB of memory, and",
        ),
        ("[32, 16]", "[1000000000000000000]", "model.hidden: no machine has memory for a layer of this size"),
    ],
)
def test_what_no_machine_has_is_refused(tiny, before, after, said):
    with pytest.raises(RequestError, match=said):
        run.check(loads(tiny.replace(before, after)), "inline")


def test_what_fits_is_not(tiny, monkeypatch):
    scenario = loads(tiny)
    sizes.refuse_endless(scenario)
    sizes.refuse_too_large(scenario, population_of(scenario))
    monkeypatch.setattr(sizes, "memory", lambda: 10_000)
    with pytest.raises(RequestError, match="lower model.hidden or federation.clients_per_round"):
        sizes.refuse_too_large(scenario, population_of(scenario))


def test_parameters_are_those_of_the_network(tiny):
    scenario = loads(tiny)
    people = population_of(scenario)
    width = people.schema.width
    assert sizes.parameters(scenario, people) == 32 * (width + 1) + 16 * 33 + people.schema.outputs * 17
