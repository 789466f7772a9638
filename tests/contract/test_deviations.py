"""What every deviation keeps, built in or of another package: found by its kind, never listed here."""

import numpy as np
import pytest
import torch

from fedinv import plugins, roles
from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.deviation import Deviation, Turn
from fedinv.federation.agreement import Agreement
from fedinv.runs.claim_checks import wrong
from fedinv.task.models import build, state
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema

from .conftest import CLASSES

KINDS = tuple(plugins.available("deviations"))
COHORT = (0, 1, 2, 3)
WIDE = Mlp(hidden=(160, 96))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def deviation(kind):
    return plugins.load("deviations", kind).model_validate({"kind": kind})


def sent(schema, model=WIDE):
    return {name: tensor.clone() for name, tensor in state(build(model, schema.shape, schema.outputs, 0)).items()}


def told(schema, model=WIDE):
    return Knowledge(
        model=model, loss="cross-entropy", schema=schema, algorithm="fedsgd", lr=0.1, batch_size=4, epochs=1
    )


def turn(client):
    return Turn(client, 1, COHORT, COHORT[:1])


def crafted(deviation, schema, client, seed=0):
    return deviation.craft(sent(schema), told(schema), turn(client), np.random.default_rng(seed))


def observation(weights, schema, update):
    return Observation(COHORT, (Exchange(1, weights, update, 8),))


def test_it_says_what_it_does_and_on_what_paper_it_rests(kind, deviation):
    assert isinstance(deviation, Deviation)
    assert deviation.kind == kind
    assert (type(deviation).__doc__ or "").count("\n") > 2
    assert plugins.available("deviations")[kind].summary


def test_weights_are_the_network_s_and_what_was_given_is_not_changed(deviation):
    before = sent(CLASSES)
    given = {name: tensor.clone() for name, tensor in before.items()}
    made = deviation.craft(given, told(CLASSES), turn(0), np.random.default_rng(0))
    assert [(n, t.shape, t.dtype) for n, t in made.items()] == [(n, t.shape, t.dtype) for n, t in before.items()]
    assert all(torch.equal(given[name], tensor) for name, tensor in before.items())


def test_the_same_draw_makes_the_same_weights_for_all_where_it_says_so(deviation):
    one, other = crafted(deviation, CLASSES, 0), crafted(deviation, CLASSES, 1)
    again = crafted(deviation, CLASSES, 0)
    assert all(torch.equal(one[name], tensor) for name, tensor in again.items())
    if type(deviation).alike:
        assert all(torch.equal(one[name], tensor) for name, tensor in other.items())


def test_nothing_is_claimed_of_updates_that_hold_nothing(deviation):
    weights = crafted(deviation, CLASSES, 0)
    for fill in (0.0, 1e-3):
        update = {name: torch.full_like(tensor, fill) for name, tensor in weights.items()}
        claim = deviation.claim(observation(weights, CLASSES, update), told(CLASSES), np.random.default_rng(0), print)
        assert wrong(claim, "records", None, CLASSES) is None
        assert not len(claim.records), "records of an update without any"


def test_noise_gives_no_verified_record(deviation):
    weights = crafted(deviation, CLASSES, 0)
    generator = torch.Generator().manual_seed(0)
    update = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in weights.items()}
    claim = deviation.claim(observation(weights, CLASSES, update), told(CLASSES), np.random.default_rng(0), print)
    assert wrong(claim, "records", None, CLASSES) is None
    assert not bool(claim.verified.any())


def test_who_is_told_nothing_claims_nothing_or_says_why(deviation):
    weights = crafted(deviation, CLASSES, 0)
    update = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    claim = deviation.claim(observation(weights, CLASSES, update), Knowledge(), np.random.default_rng(0), print)
    assert not len(claim.records)


def test_a_network_that_it_is_not_made_for_is_refused_with_a_reason(deviation):
    said = [deviation.misfit(model) for model in (Mlp(hidden=(8, 8, 8), activation="sigmoid"), Mlp(hidden=(8,)))]
    assert all(one is None or (one and one[-1] != ".") for one in said)
    small, said = Mlp(hidden=(2, 2)), ""
    made = sent(CLASSES, small)
    try:
        made = deviation.craft(sent(CLASSES, small), told(CLASSES, small), turn(0), np.random.default_rng(0))
    except ValueError as error:
        said = str(error)
    assert list(made) == list(sent(CLASSES, small))
    assert "\n" not in said


def test_the_server_carries_it_out_by_its_table(kind):
    malicious = roles.load("server", "malicious")
    agreement = Agreement.model_validate(
        {
            "name": "x",
            "federation": {"clients": 4, "rounds": 2},
            "training": {"algorithm": "fedsgd", "batch_size": 4, "lr": 0.1},
            "server": {"kind": "malicious", "deviations": [{"kind": kind}]},
        }
    )
    planned = malicious.plan(agreement, sent(CLASSES), told(CLASSES), 1, COHORT, lambda client: ())
    assert set(planned.sent) == set(COHORT)
    assert [one.kind for one in planned.deviations] == [kind]
    alike = len({id(weights) for weights in planned.sent.values()}) == 1
    assert alike or not type(planned.deviations[0]).alike


def test_schemas_are_found():
    assert isinstance(CLASSES, Schema)
    assert len(KINDS) > 3


def test_what_evades_detectors_are_settings_of_its_own(kind, deviation):
    for settings in type(deviation).evasions:
        changed = type(deviation).model_validate({"kind": kind, **settings})
        assert changed != deviation
    type(deviation).model_validate({"kind": kind, **type(deviation).over_steps})


def test_what_is_turned_down_to_evade_them_is_a_number_of_its_own(kind, deviation):
    for dial in type(deviation).dials:
        least, most = (
            type(deviation).model_validate({"kind": kind, **dial.beside, dial.key: value})
            for value in (dial.least, dial.most)
        )
        assert 0 < getattr(least, dial.key) < getattr(most, dial.key)


def test_rounds_that_it_sends_crafted_weights_in_are_among_those_there_are(deviation):
    rounds = deviation.crafted_in(4)
    assert rounds
    assert set(rounds) <= {1, 2, 3, 4}
