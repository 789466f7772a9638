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
from server.attacks.inference.membership import Membership
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


def _noisy_rounds(people, rounds, std):
    """Updates of dp-sgd with a clip of 1, one step on all members in each round, and the weights they follow on."""
    network, exchanges = build(MODEL, SCHEMA.shape, 2, seed=1), []
    generator = torch.Generator().manual_seed(0)
    names, weights = zip(*network.named_parameters(), strict=True)
    for number in range(1, rounds + 1):
        sent = {name: p.detach().clone() for name, p in zip(names, weights, strict=True)}
        total = [torch.zeros_like(p) for p in weights]
        for x, y in zip(people.records[:MEMBERS], people.labels[:MEMBERS], strict=True):
            each = torch.autograd.grad(cross_entropy(network(x[None]), y[None]), weights)
            norm = float(torch.cat([g.flatten() for g in each]).norm())
            total = [t + g * min(1.0, 1 / norm) for t, g in zip(total, each, strict=True)]
        update = [-0.5 / MEMBERS * (t + std * torch.randn(t.shape, generator=generator)) for t in total]
        with torch.no_grad():
            for p, step in zip(weights, update, strict=True):
                p += step
        exchanges.append(Exchange(number, sent, dict(zip(names, update, strict=True)), MEMBERS))
    return tuple(exchanges)


def test_who_knows_of_the_noise_adds_up_the_rounds_that_the_others_drown_in():
    people, attack = _people(), Membership(method="gradient")
    assert attack.answers("dp-sgd")
    assert not Membership(method="lira").answers("dp-sgd")
    known = {"kind": "dp-sgd", "clip": 1.0, "noise_multiplier": 1.0}
    # a batch size above the records: each round's batch is all of them
    told = replace(KNOWS, batch_size=MEMBERS + 1, question=Question(people))
    exchanges = _noisy_rounds(people, 8, 1.0)

    def auc(count, **more):
        given = replace(told, **more)
        return _auc(attack.run(Observation((0,), exchanges[:count]), given, np.random.default_rng(0), _quiet).scores)

    static, once, summed = auc(8), auc(1, defenses=(known,)), auc(8, defenses=(known,))
    assert summed > max(static, once) + 0.05
    assert summed > 0.7


def test_shadows_trained_at_once_are_those_trained_one_by_one(monkeypatch):
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
    # what would not fit into memory side by side is computed one after the other
    side_by_side = confidences(knows, together, people)
    monkeypatch.setattr("server.inference.shadows.AT_ONCE", 1)
    assert torch.allclose(confidences(knows, together, people), side_by_side, atol=1e-5)


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
