from dataclasses import replace

import numpy as np
import pytest
import torch

from fedinv.attack import Exchange, Observation, Question, Sample
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import read
from fedinv.task.models import build, state
from server.attacks.inference.line_up import LineUp
from server.countermeasures import answer
from server.inference.likelihood import mechanism

N, TARGET = 10, 3


def lineup(defense, trial=0, rounds=1, model="model.hidden=[16]"):
    """Five others and the candidate in place TARGET, behind the mechanism; 16 is more than there are."""
    keys = [
        "data.records=400",
        "training.algorithm=fedsgd",
        "training.batch_size=16",
        "training.records_per_client=6",
        model,
    ]
    scenario = read("hospital", [*keys, f"defenses=[{defense}]"])
    people = population_of(scenario)
    schema = people.table.schema
    order = np.random.default_rng(trial).permutation(len(people.labels))
    candidates, others = (Sample(people.inputs[at], people.labels[at]) for at in (order[:N], order[N : N + 5]))
    network = build(scenario.model, schema.shape, schema.outputs, trial)
    sent = {k: v.clone() for k, v in state(network).items()}
    knows = replace(scenario.knowledge(schema, adaptive=True), question=Question(people=candidates, others=others))
    empty = Exchange(1, sent, {k: torch.zeros_like(v) for k, v in sent.items()}, 6)
    given = mechanism((empty,), knows, answer(Observation((0,), (empty,)), knows).distortion(empty))
    total = given.gradients(others).sum(0) + given.gradients(candidates)[TARGET]
    clean = -knows.lr * total / 6
    clean = clean * min(1.0, given.update_clip / float(clean.norm()))
    generator, exchanges = torch.Generator().manual_seed(trial), []
    for round_ in range(1, rounds + 1):
        flat = clean + given.std * torch.randn(len(clean), generator=generator)
        parts = flat.split([v.numel() for v in sent.values()])
        received = {k: part.view(v.shape) for (k, v), part in zip(sent.items(), parts, strict=True)}
        exchanges.append(Exchange(round_, sent, received, 6))
    return Observation((0,), tuple(exchanges)), knows


def named(seen, knows):
    answer = LineUp().run(seen, knows, np.random.default_rng(0), lambda _: None)
    assert answer.scores.shape == (1, N)
    return int(answer.scores.argmax())


@pytest.mark.parametrize(
    "defense",
    ["", "{kind='dp-sgd',noise_multiplier=0.01,clip=1.0}", "{kind='clip-noise',noise_multiplier=0.001,clip=0.01}"],
)
def test_with_hardly_any_noise_it_is_always_right(defense):
    assert all(named(*lineup(defense, trial)) == TARGET for trial in range(10))


def test_behind_heavy_noise_it_is_a_guess():
    hits = sum(named(*lineup("{kind='dp-sgd',noise_multiplier=100.0,clip=1.0}", t)) == TARGET for t in range(60))
    assert hits <= 14  # of 60 at one in ten: exceeded once in 1000 times


@pytest.mark.slow
def test_rounds_of_the_same_batch_add_up():
    defense = "{kind='dp-sgd',noise_multiplier=3.0,clip=1.0}"
    once = sum(named(*lineup(defense, t)) == TARGET for t in range(20))
    often = sum(named(*lineup(defense, t, rounds=60)) == TARGET for t in range(20))
    assert once <= 10 < 15 <= often


def test_what_is_withheld_is_said():
    seen, knows = lineup("{kind='dp-sgd',noise_multiplier=0.01,clip=1.0}")
    run = LineUp().run
    for key, said in (("model", "architecture"), ("lr", "learning rate")):
        answer = run(seen, replace(knows, **{key: None}), np.random.default_rng(0), lambda _: None)
        assert len(answer.scores) == 0
        assert said in answer.notes[0]
    nobody = run(seen, replace(knows, question=None), np.random.default_rng(0), lambda _: None)
    assert "no line-up" in nobody.notes[0]
    untold = run(seen, replace(knows, defenses=None), np.random.default_rng(0), lambda _: None)
    assert "no noise is known of" in untold.notes[0]


def test_the_fast_gradients_are_those_of_vmap():
    from torch.func import functional_call, grad, vmap

    from fedinv.task.loss import loss

    seen, knows = lineup("", model="model={kind='mlp',hidden=[8,8],activation='tanh'}")
    given, people = mechanism((seen.last,), knows, answer(seen, knows).distortion(seen.last)), knows.question.people
    weights = {k: p.detach() for k, p in given.network.named_parameters()}
    slow = vmap(
        grad(lambda w, x, y: loss(functional_call(given.network, w, (x[None],)), y[None])), in_dims=(None, 0, 0)
    )(weights, people.records, people.labels)
    expected = torch.cat([slow[k].flatten(1) for k in weights], 1)
    torch.testing.assert_close(given.gradients(people), expected, rtol=1e-4, atol=1e-6)
