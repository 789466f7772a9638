"""Every defense is attacked as if it were not there, and by who knows of it, or its file says why that is no use."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv import plugins, roles
from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.defense import Sending
from fedinv.federation.training import Participation
from fedinv.runs.attack_runner import plans
from fedinv.scenario.reading import loads
from fedinv.task.models import build

countermeasures = roles.load("server", "countermeasures")
FlowerLocalDp = plugins.load("defenses", "flower-local-dp")
ATTACKS = """
[[attacks]]
kind = "exact"
fall_back = false
[[attacks]]
kind = "gradient-matching"
iterations = 1
restarts = 1
"""
NEEDS_A_SUM = {"distributed-noise"}
"""Refused without a secure aggregation behind them."""


def _defended(kind):
    more = '[[defenses]]\nkind = "masking"\n' if kind in NEEDS_A_SUM else ""
    return f'[[defenses]]\nkind = "{kind}"\n{more}'


@pytest.mark.parametrize("kind", plugins.available("defenses"))
def test_every_defense_is_attacked_statically_and_adaptively_or_says_why_not(tiny, kind):
    scenario = loads(tiny + _defended(kind) + ATTACKS)
    variants = {plan.variant for attack in scenario.attacks for plan in plans(scenario, attack)}
    reason = countermeasures.nothing_to_adapt_to(kind)
    assert variants == ({"static"} if reason else {"static", "adaptive"})
    assert reason is None or (len(reason.split()) > 5 and kind not in countermeasures.answered())


def _sending():
    return Sending(0, 1, (0,), 4, 0, np.random.default_rng(5))


def _update(scenario):
    """A client's update of one step on 4 records, sent and received, its schema and the records."""
    table = scenario.data.load(1)
    x, y = table.schema.encode(table.columns)[:4], torch.from_numpy(np.asarray(table.labels[:4])).long()
    network = build(scenario.model, table.schema.shape, table.schema.outputs, 0)
    weights = dict(network.named_parameters())
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(weights.values()))
    sent = {name: weight.detach() for name, weight in weights.items()}
    return sent, {name: -0.05 * g for name, g in zip(sent, gradients, strict=True)}, table.schema, x


@pytest.mark.parametrize(("noise", "recovered"), [(1e-7, 4), (1e-2, 0)])
def test_flowers_local_dp_hides_records_by_the_size_of_its_noise_from_who_knows_it(tiny, noise, recovered):
    text = tiny.replace('"fedavg"\nepochs = 2', '"fedsgd"').replace("[32, 16]", "[256]")
    scenario = loads(text)
    # the epsilon by which Flower adds this much noise
    defense = FlowerLocalDp(clip=100.0, epsilon=math.sqrt(2 * math.log(1.25e5)) / noise)
    sent, update, schema, x = _update(scenario)
    received = {name: t.float() for name, t in defense.protect(update, _sending()).items()}
    known = defense.known(Participation(records=4))
    knows = Knowledge(scenario.model, "cross-entropy", schema, "fedsgd", 0.05, 4, defenses=(known,))
    seen = Observation((0,), (Exchange(1, sent, received, 4),))
    attack = roles.load("server", "attacks.exact").Exact(fall_back=False)
    assert "flower-local-dp" in attack.adapts_to
    claim = attack.run(seen, knows, np.random.default_rng(0), lambda _: None)
    assert len(claim.records) == recovered
    if recovered:
        assert float(torch.cdist(claim.records, x).amin(1).max()) < 0.05


@pytest.mark.parametrize("kind", ["clip-noise", "flower-local-dp", "broken-noise"])
def test_the_noise_that_a_file_tells_of_is_the_noise_that_the_defense_adds(kind):
    defense = plugins.load("defenses", kind)()
    zeros = {"0.weight": torch.zeros(300, 300)}
    sent = defense.protect(zeros, _sending())
    knows = Knowledge(defenses=(defense.known(Participation()),))
    seen = Observation((0,), (Exchange(1, zeros, zeros, 4),))
    noise = countermeasures.answer(seen, knows).distortion(seen.last).noise
    assert float(sent["0.weight"].std()) == pytest.approx(noise, rel=0.02)
    assert countermeasures.answer(seen, Knowledge()).distortion(seen.last).noise == 0
