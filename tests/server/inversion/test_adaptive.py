"""What attacks that need a sum of gradients do behind an optimizer that makes none of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedinv.attack import Answer, Exchange, Knowledge, Observation
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers import Adam, AdamW, RmsProp, Sgd
from fedinv.task.optimizers.schedules import Cosine, Step
from fedinv.task.schema import Schema
from server.attacks.exact import Exact
from server.attacks.inference.labels import Labels
from server.attacks.inference.property import Property
from server.attacks.row_space import RowSpace
from server.inversion.local_training import decay, step_length
from server.inversion.recompute import recompute_update

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=50, std=15, low=18, high=95, mode=45),
        Categorical(name="ward", values=tuple("abcdef"), frequencies=(0.3, 0.2, 0.2, 0.1, 0.1, 0.1)),
        Continuous(name="weight", mean=75, std=12, low=40, high=140, mode=72),
    ),
    label="ill",
    classes=("no", "yes"),
)
MODEL, RECORDS = Mlp(hidden=(64, 32)), 3
KNOWS = Knowledge(MODEL, "cross-entropy", SCHEMA, "fedavg", 0.05, RECORDS, 3)


def observed(knows):
    """What the server sees of a client that trains as `knows` says, and its records."""
    rng = np.random.default_rng(2)
    records = SCHEMA.encode(SCHEMA.decode(SCHEMA.draw(RECORDS, rng)))
    network = build(MODEL, SCHEMA.shape, 2, 3)
    sent = {name: p.detach().clone() for name, p in network.named_parameters()}
    received = recompute_update(knows, sent, records, torch.tensor([0, 1, 1]), rng)
    return Observation((0,), (Exchange(1, sent, received, RECORDS),)), records


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), RmsProp()])
@pytest.mark.parametrize("attack", [Exact(), RowSpace(), Labels(), Property(column="ward")])
def test_nothing_is_claimed_of_an_adaptive_update_and_the_note_says_why(attack, optimizer):
    knows = replace(KNOWS, optimizer=optimizer, lr=0.001)
    found = attack.run(observed(knows)[0], knows, np.random.default_rng(0), lambda _: None)
    assert len(found.scores if isinstance(found, Answer) else found.records) == 0
    if not isinstance(attack, Property):  # which is asked nothing here
        assert f"train with {optimizer.kind}, which scales each entry of a step by itself" in found.notes[0]


@pytest.mark.parametrize("attack", [Exact(), RowSpace()])
def test_nor_is_anything_false_where_the_optimizer_is_withheld(attack):
    knows = replace(KNOWS, optimizer=Adam(), lr=0.001)
    seen, _ = observed(knows)
    blind = replace(knows, optimizer=None, lr=None)
    claim = attack.run(seen, blind, np.random.default_rng(0), lambda _: None)
    assert not bool(claim.verified.any())


@pytest.mark.parametrize(
    "how",
    [
        {"momentum": 0.9, "optimizer": Sgd(nesterov=True), "lr": 0.01},
        {"proximal": 1.0},
        {"schedule": Cosine()},
        {"weight_decay": 0.1, "momentum": 0.5},
        {"class_weights": (1.0, 3.0)},
    ],
)
def test_records_behind_any_sgd_are_found_and_verified_by_training_again(how):
    knows = replace(KNOWS, **how)
    seen, records = observed(knows)
    claim = Exact().run(seen, knows, np.random.default_rng(0), lambda _: None)
    assert len(claim.records) == RECORDS
    assert float(torch.cdist(claim.records, records).min(0).values.max()) < 1e-3
    assert claim.mismatch < 0.01
    assert bool(claim.verified.all())


def test_a_schedule_over_rounds_gives_each_round_its_own_rate():
    knows = replace(KNOWS, lr=0.025, round_lrs=(0.1, 0.05, 0.025), schedule=Step(every=1, by=0.5))
    assert step_length(knows, RECORDS) == pytest.approx(0.025 * 1.75)
    assert step_length(knows.at(1), RECORDS) == pytest.approx(0.1 * 1.75)
    assert knows.at(9) == knows


def test_decay_and_the_proximal_term_move_a_weight_of_no_record_by_a_known_factor():
    knows = replace(KNOWS, weight_decay=0.2, proximal=0.5)
    # three steps by hand: w <- w - lr (decay w + mu (w - 1))
    weight = 1.0
    for _ in range(3):
        weight -= 0.05 * (0.2 * weight + 0.5 * (weight - 1.0))
    assert decay(knows, RECORDS) == pytest.approx(weight - 1.0)
