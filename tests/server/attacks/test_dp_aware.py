from dataclasses import replace

import numpy as np
import pytest
import torch

from fedinv.attack import Exchange, Observation, Sample
from fedinv.judge.matching import match
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import read
from fedinv.task.models import build, state
from server.attacks.dp_aware import DpAware
from server.countermeasures import answer
from server.inference.likelihood import mechanism, repeats

ATTACK = DpAware(draws=25)


def victim(noise, client=0, rounds=1, batch_size=4):
    """One record, its clipped gradient and Gaussian noise drawn anew each round at the same weights."""
    keys = [
        "data.records=400",
        "training.algorithm=fedsgd",
        f"training.batch_size={batch_size}",
        "training.records_per_client=1",
    ]
    scenario = read(
        "hospital", [*keys, "model.hidden=[24]", f'defenses=[{{kind="dp-sgd",noise_multiplier={noise},clip=1.0}}]']
    )
    people = population_of(scenario)
    schema, rows = people.table.schema, people.shares[client]
    network = build(scenario.model, schema.shape, schema.outputs, scenario.seed)
    sent = {k: v.clone() for k, v in state(network).items()}
    knows = scenario.knowledge(schema, adaptive=True)
    empty = Exchange(1, sent, {k: torch.zeros_like(v) for k, v in sent.items()}, 1)
    given = mechanism((empty,), knows, answer(Observation((0,), (empty,)), knows).distortion(empty))
    clean = -knows.lr * given.gradients(Sample(people.inputs[rows], people.labels[rows]))[0]
    generator, exchanges = torch.Generator().manual_seed(client), []
    for round_ in range(1, rounds + 1):
        flat = clean + given.std * torch.randn(len(clean), generator=generator)
        parts = flat.split([v.numel() for v in sent.values()])
        received = {k: part.view(v.shape) for (k, v), part in zip(sent.items(), parts, strict=True)}
        exchanges.append(Exchange(round_, sent, received, 1))
    return Observation((client,), tuple(exchanges)), knows, people, rows


def attacked(seen, knows):
    return ATTACK.run(seen, knows, np.random.default_rng(0), lambda _: None)


def judged(claim, people, rows):
    return match(claim.records, people.table.take(rows).columns, people.table.schema, 0.319)


def test_without_noise_the_record_comes_back_to_the_digit():
    seen, knows, people, rows = victim(0.0)
    claim = attacked(seen, knows)
    assert judged(claim, people, rows).exact.all()
    assert claim.labels[0] == people.labels[rows[0]]
    assert claim.confidence[0] > 0.9
    assert claim.mismatch < 1e-2
    assert "no noise is known of" in claim.notes[0]


def test_behind_heavy_noise_it_is_no_surer_than_the_prior():
    seen, knows, _people, _rows = victim(20.0)
    claim = attacked(seen, knows)
    assert claim.confidence[0] < 0.2
    assert claim.fields.mean() < 0.6


@pytest.mark.slow
def test_the_same_weights_again_and_again_wear_the_noise_down():
    seen, knows, people, rows = victim(0.3, rounds=400)
    once = attacked(Observation(seen.clients, seen.exchanges[-1:]), knows)
    often = attacked(seen, knows)
    assert "400 answers" in often.notes[0]
    assert judged(often, people, rows).recovered.all()
    assert often.fields.mean() > once.fields.mean() + 0.1


def test_a_full_batch_may_be_another_one_each_time():
    seen, knows, _, _ = victim(0.3, rounds=3, batch_size=1)
    assert len(repeats(seen.exchanges, knows)) == 1
    seen, knows, _, _ = victim(0.3, rounds=3)
    other = {k: v + 1 for k, v in seen.last.sent.items()}
    moved = (replace(seen.exchanges[0], sent=other), *seen.exchanges[1:])
    assert len(repeats(moved, knows)) == 2


@pytest.mark.parametrize(
    ("withheld", "said"),
    [("model", "architecture"), ("schema", "schema"), ("lr", "learning rate")],
)
def test_what_is_withheld_is_said(withheld, said):
    seen, knows, _, _ = victim(0.1)
    claim = attacked(seen, replace(knows, **{withheld: None}))
    assert len(claim.records) == 0
    assert said in claim.notes[0]


def test_several_local_steps_are_not_attacked():
    seen, knows, _, _ = victim(0.1)
    claim = attacked(seen, replace(knows, algorithm="fedavg"))
    assert len(claim.records) == 0
    assert "several local steps" in claim.notes[0]


def test_a_zero_update_is_not_attacked():
    seen, knows, _, _ = victim(0.1)
    zero = {k: torch.zeros_like(v) for k, v in seen.last.sent.items()}
    claim = attacked(Observation((0,), (replace(seen.last, received=zero),)), knows)
    assert claim.notes == ("nothing claimed: the update is zero",)
