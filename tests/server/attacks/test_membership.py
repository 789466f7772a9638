from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.attack import Exchange, Knowledge, Observation, Question, Sample
from fedinv.task.columns import Continuous
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema
from server.attacks.membership import Membership
from server.inference.shadows import ShadowTraining, confidences, shadows

SCHEMA = Schema(
    columns=tuple(Continuous(name=f"x{i}", mean=0, std=1, low=-6, high=6, mode=0) for i in range(10)),
    label="ill",
    classes=("no", "yes"),
)
MODEL = Mlp(hidden=(64,))
KNOWS = Knowledge(MODEL, "cross-entropy", SCHEMA, "fedsgd", 0.5, 40, 1, 0.0, 0.0)
MEMBERS = 40


def _people(seed=0, count=3 * MEMBERS):
    """People whose labels are half chance, so that a model can only learn them by heart."""
    rng = np.random.default_rng(seed)
    return Sample(SCHEMA.draw(count, rng), torch.from_numpy(rng.integers(0, 2, count)))


def _trained(people, steps):
    network = build(MODEL, SCHEMA.shape, 2, seed=1)
    for _ in range(steps):
        slopes = torch.autograd.grad(
            cross_entropy(network(people.records[:MEMBERS]), people.labels[:MEMBERS]), list(network.parameters())
        )
        with torch.no_grad():
            for p, slope in zip(network.parameters(), slopes, strict=True):
                p -= 0.5 * slope
    return {name: p.detach() for name, p in network.named_parameters()}


def _auc(scores):
    inside, outside = scores[:MEMBERS, 0], scores[MEMBERS:, 0]
    return float((inside[:, None] > outside[None]).float().mean())


def _run(people, learned, **keys):
    seen = Observation((0,), (Exchange(max(1, learned), _trained(people, learned), {}, MEMBERS),))
    return Membership(**keys).run(seen, replace(KNOWS, question=Question(people)), np.random.default_rng(0), _quiet)


def _quiet(_):
    pass


@pytest.mark.parametrize("keys", [{"method": "loss"}, {"method": "lira", "shadows": 16, "steps": 300}])
def test_a_model_that_learned_people_by_heart_gives_them_away(keys):
    people = _people()
    assert _auc(_run(people, 300, **keys).scores) > 0.85
    assert _auc(_run(people, 0, **keys).scores) == pytest.approx(0.5, abs=0.12)  # and an untrained one nobody


def test_a_persons_gradient_is_found_in_the_update():
    people = _people()
    network = build(MODEL, SCHEMA.shape, 2, seed=1)
    loss = cross_entropy(network(people.records[:MEMBERS]), people.labels[:MEMBERS])
    names, weights = zip(*network.named_parameters(), strict=True)
    update = dict(zip(names, (-0.5 * g for g in torch.autograd.grad(loss, weights)), strict=True))
    sent = {name: p.detach() for name, p in zip(names, weights, strict=True)}
    seen = Observation((0,), (Exchange(1, sent, update, MEMBERS),))
    knows = replace(KNOWS, question=Question(people))
    attack = Membership(method="gradient")
    assert attack.sees == "update"
    assert _auc(attack.run(seen, knows, np.random.default_rng(0), _quiet).scores) > 0.85
    noisy = {
        name: t + 0.5 * torch.randn(t.shape, generator=torch.Generator().manual_seed(0)) for name, t in update.items()
    }
    seen = Observation((0,), (Exchange(1, sent, noisy, MEMBERS),))
    assert _auc(attack.run(seen, knows, np.random.default_rng(0), _quiet).scores) == pytest.approx(0.5, abs=0.15)


def test_shadows_trained_at_once_are_those_trained_one_by_one():
    people = _people(count=30)
    inside = torch.from_numpy(np.random.default_rng(0).random((3, 30)) < 0.5)
    knows = replace(KNOWS, momentum=0.5, weight_decay=0.01)
    together = shadows(knows, people, inside, ShadowTraining(5, 4, 0.1), seed=3)
    generator = torch.Generator().manual_seed(3)
    rows = [torch.multinomial(inside.float(), 4, replacement=True, generator=generator) for _ in range(5)]
    for i in range(3):
        network = build(MODEL, SCHEMA.shape, 2, seed=3)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5, weight_decay=0.01)
        for step in rows:
            optimizer.zero_grad()
            cross_entropy(network(people.records[step[i]]), people.labels[step[i]]).backward()
            optimizer.step()
        for name, p in network.named_parameters():
            assert torch.allclose(together[name][i], p, atol=1e-5)
    chance = torch.softmax(network(people.records).detach().double(), 1).gather(1, people.labels[:, None])[:, 0]
    assert torch.allclose(confidences(knows, together, people)[2], torch.logit(chance), atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "withheld", "said"),
    [
        ({"method": "loss"}, {"model": None}, "architecture"),
        ({"method": "lira"}, {"lr": None}, "settings are withheld"),
        ({"method": "loss"}, {"schema": None}, "schema"),
        ({"method": "gradient"}, {}, "no update"),
    ],
)
def test_what_is_missing_is_named(keys, withheld, said):
    people = _people()
    seen = Observation((0,), (Exchange(1, _trained(people, 0), {}, MEMBERS),))
    knows = replace(KNOWS, question=Question(people), **withheld)
    answer = Membership(**keys).run(seen, knows, np.random.default_rng(0), _quiet)
    assert len(answer.scores) == 0
    assert said in answer.notes[0]
