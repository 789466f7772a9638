"""What every detector keeps, built in or of another package: found by its kind, never listed here."""

import copy
import json
import math

import pytest
import torch

from fedinv import plugins
from fedinv.detector import NOTHING, Detector, Look, digest, scores
from fedinv.errors import RequestError
from fedinv.scenario.reading import parse
from fedinv.task.models import Mlp, build, state

MODEL = Mlp(hidden=(16, 12))
SHAPE = (20,)
KINDS = tuple(plugins.available("detectors"))


def made(kind, **keys):
    return plugins.load("detectors", kind)(kind=kind, **keys)


def weights(seed):
    return {name: tensor.detach().clone() for name, tensor in state(build(MODEL, SHAPE, 3, seed)).items()}


@pytest.fixture
def everything():
    """Weights as a client receives them, and all that it can have at hand."""
    generator = torch.Generator().manual_seed(2)
    received = weights(1)
    step = {name: 0.01 * torch.randn(tensor.shape, generator=generator) for name, tensor in received.items()}
    before = {name: tensor - 0.5 * step[name] for name, tensor in received.items()}
    look = Look(
        network=build(MODEL, SHAPE, 3, 9),
        inputs=torch.randn((12, SHAPE[0]), generator=generator),
        labels=torch.arange(12) % 3,
        earlier=(before,),
        step=step,
        digests=(digest(received),) * 3,
    )
    return received, look


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_frozen_documented_and_read_back_as_it_was(kind):
    one = made(kind)
    assert isinstance(one, Detector)
    assert type(one).__doc__
    assert one.kind == kind
    again = type(one).model_validate(json.loads(one.model_dump_json()))
    assert again == one
    assert hash(again) == hash(one)
    assert one.action == "report"


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_a_number_that_depends_on_what_is_given_alone_and_changes_none_of_it(kind, everything):
    received, look = everything
    kept = copy.deepcopy((received, look.inputs, look.labels, look.earlier, look.step, look.network.state_dict()))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = build(MODEL, SHAPE, 3, seed)  # its own weights are not used
        found.append(made(kind).score(received, Look(network, *list(vars(look).values())[1:])))
    assert found[0] == found[1]
    assert isinstance(found[0], float)
    assert math.isfinite(found[0])
    now = (received, look.inputs, look.labels, look.earlier, look.step, look.network.state_dict())
    for one, other in zip(torch.utils._pytree.tree_leaves(kept), torch.utils._pytree.tree_leaves(now), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_model_at_hand_is_not_flagged(kind, everything):
    received, look = everything
    one = made(kind)
    assert one.score(received, look) <= one.threshold


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [None, 0.0, 1e19])
def test_whatever_is_sent_or_missing_it_raises_nothing_and_its_score_is_no_nan(kind, value, everything):
    received, look = everything
    if value is not None:
        received = {name: torch.full_like(tensor, value) for name, tensor in received.items()}
    else:
        look = Look()
    score = made(kind).score(received, look)
    assert not math.isnan(score)
    assert made(kind).score({}, Look()) == NOTHING


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_key_is_refused_in_one_line_that_names_it(kind):
    document = {"name": "contract", "data": {"source": "hospital"}, "federation": {"clients": 2, "rounds": 1}}
    document |= {"training": {"algorithm": "fedsgd"}, "vetting": [{"kind": kind, "nonsense": 1}]}
    with pytest.raises(RequestError, match=r"^contract: vetting\.0\.nonsense: unknown key") as caught:
        parse(document, "contract")
    assert "\n" not in str(caught.value)


def test_the_scores_of_a_list_of_pairs_are_those_of_each_pair(everything):
    detectors = [made(kind) for kind in KINDS]
    found = scores(detectors, [everything, (everything[0], Look())])
    assert list(found) == list(KINDS)
    for one in detectors:
        assert found[one.kind] == [one.score(*everything), one.score(everything[0], Look())]


def test_the_digest_depends_on_names_shapes_and_every_number(everything):
    received, _ = everything
    assert digest(received) == digest(copy.deepcopy(received))
    name = next(iter(received))
    nudged = {**received, name: received[name].clone()}
    nudged[name].view(-1)[0] += 1e-3
    others = [nudged, {**received, name: received[name].T}, {f"a{n}": tensor for n, tensor in received.items()}]
    assert len({digest(received), *map(digest, others)}) == 4
