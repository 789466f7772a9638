from dataclasses import replace

import numpy as np
import pytest
import torch

from fedinv import roles
from fedinv.attack import Knowledge, Observation, Sample
from fedinv.task.models import build, state
from fedinv.task.networks.convolutional import Lenet
from fedinv.task.networks.perceptron import Mlp

Imprint = roles.load("server", "malicious.first_layer.imprint").Imprint
TrapWeights = roles.load("server", "malicious.first_layer.trap_weights").TrapWeights
Qbi = roles.load("server", "malicious.first_layer.qbi").Qbi
pairs = roles.load("server", "malicious.first_layer.qbi").pairs
ALL = (Imprint(), TrapWeights(), Qbi())


def claimed(deviation, client, knows=None):
    knows = knows or client.knows
    sent = deviation.craft(client.blank(), knows, client.turn(), np.random.default_rng(5))
    seen = Observation((0,), (client.answer(sent),))
    return deviation.claim(seen, knows, np.random.default_rng(0), print)


@pytest.mark.parametrize("hidden", [(128,), (128, 64), (128, 64, 32)])
def test_as_many_records_are_alone_in_their_bin_as_the_formula_says(clinic, hidden):
    client = clinic(24, *hidden)
    claim = claimed(Imprint(), client)
    right, false = client.judged(claim)
    assert (right, false) == (len(claim.records), 0)
    assert right >= 24 * (1 - 1 / 128) ** 23 - 4
    assert bool(claim.verified.all())


@pytest.mark.parametrize("hidden", [(80,), (80, 40)])
@pytest.mark.parametrize("kind", [TrapWeights, Qbi])
def test_records_taken_out_of_all_rows_leave_others_alone_more_of_them_than_a_record_has_inputs(clinic, kind, hidden):
    client = clinic(40, *hidden)
    paper, ours = (claimed(kind(eliminate=one), client) for one in (False, True))
    (few, _), (right, false) = client.judged(paper), client.judged(ours)
    assert false == 0 and bool(ours.verified.all())
    assert right >= 36 and right > 1.5 * few
    assert right > clinic.schema.width + 1


def test_after_local_steps_units_fire_at_one_record_and_nothing_is_eliminated(clinic):
    client = clinic(24, 128, 64, algorithm="fedavg", epochs=2)
    assert torch.equal(claimed(Qbi(), client).records, claimed(Qbi(eliminate=False), client).records)


@pytest.mark.parametrize("deviation", [TrapWeights(), Qbi(), TrapWeights(scaling=0.95)])
def test_units_that_fire_at_one_record_alone_give_it(clinic, deviation):
    client = clinic(24, 128, 64)
    claim = claimed(deviation, client)
    right, false = client.judged(claim)
    assert false == 0
    assert right == len(claim.records) and right >= (1 if getattr(deviation, "scaling", None) else 12)


def test_pairs_chooses_rows_that_fire_at_another_auxiliary_record_each():
    values = torch.tensor([[1.0, 1, -1, 1, -1, -1], [-1, -1, 1, 1, -1, -1], [-1, -1, -1, 1, 1, -1.0]])
    chosen = pairs(values, (3, 3), np.random.default_rng(0))
    assert {int(values[:, row].argmax()) for row in chosen} == {0, 1, 2}
    assert 3 not in chosen and 5 not in chosen


def test_with_auxiliary_records_rows_are_chosen_and_more_is_read(clinic):
    client, others = clinic(24, 48, 32), clinic.schema.draw(300, np.random.default_rng(8))
    knows = replace(client.knows, auxiliary=Sample(others, torch.zeros(300, dtype=torch.int64)))
    drawn, chosen = (client.judged(claimed(Qbi(redraws=k, eliminate=False), client, knows))[0] for k in (1, 16))
    assert chosen > drawn


def test_records_that_share_a_bin_are_not_claimed(clinic):
    claim = claimed(Imprint(), (client := clinic(64, 8)))
    assert client.judged(claim)[1] == 0
    assert len(claim.records) < 8


def test_the_coefficient_alone_tells_one_record_from_several(clinic):
    client = clinic(24, 64, 32)
    sent = Imprint().craft(client.blank(), client.knows, client.turn(), np.random.default_rng(5))
    claim = Imprint().claim(
        Observation((0,), (client.answer(sent),)), replace(client.knows, schema=None), np.random.default_rng(0), print
    )
    right, false = client.judged(claim)
    assert right > 10 and false == 0
    assert bool(claim.verified.all())


def test_sparse_bins_survive_local_steps(clinic):
    client = clinic(32, 128, 128, algorithm="fedavg", epochs=2)
    off = [
        torch.cdist(claimed(one, client).records.double(), client.people.double(), p=torch.inf).amin(1)
        for one in (Imprint(), Imprint(sparse=True))
    ]
    dense, sparse = (int((one < 0.05).sum()) for one in off)
    assert sparse >= 12
    assert sparse > dense


@pytest.mark.parametrize("deviation", ALL)
def test_what_does_not_fit_is_refused_with_the_reason(clinic, deviation):
    client = clinic(4, 8, 8)
    assert "no perceptron" in deviation.misfit(Lenet())
    assert "tanh" in deviation.misfit(Mlp(hidden=(8,), activation="tanh"))
    assert deviation.misfit(Mlp(hidden=(8,))) is None
    with pytest.raises(ValueError, match="schema is withheld"):
        deviation.craft(client.blank(), Knowledge(), client.turn(), np.random.default_rng(0))


def test_who_knows_no_batch_size_is_asked_for_it(clinic):
    client = clinic(4, 8, 8)
    for one in (TrapWeights, Qbi):
        with pytest.raises(ValueError, match="`records`"):
            one().craft(client.blank(), replace(client.knows, batch_size=None), client.turn(), np.random.default_rng(0))
        assert client.judged(claimed(one(records=4), client, replace(client.knows, batch_size=None)))[1] == 0


def test_sparse_bins_need_a_second_hidden_layer(clinic):
    assert "two hidden layers" in Imprint(sparse=True).misfit(Mlp(hidden=(8,)))
    client = clinic(4, 8)
    with pytest.raises(ValueError, match="two hidden layers"):
        Imprint(sparse=True).craft(client.blank(), client.knows, client.turn(), np.random.default_rng(0))


def test_rows_of_the_model_are_lowered_by_category_alone_until_few_records_fire_them(clinic):
    client = clinic(24, 128, 64)
    model = state(build(client.model, clinic.schema.shape, clinic.schema.outputs, 3))
    sent = Qbi(own_rows=True).craft(model, client.knows, client.turn(), np.random.default_rng(5))
    first, *others = model
    assert all(torch.equal(sent[name], model[name]) for name in others)
    moved = (sent[first] - model[first]).abs().amax(0) > 0
    assert moved.tolist() == [False] + 6 * [True] + [False] + 5 * [True] + 2 * [False] + 2 * [True]
    people = clinic.schema.draw(4000, np.random.default_rng(9))
    rates = [(people @ weights[first].T + weights["0.bias"] > 0).double().mean(0) for weights in (model, sent)]
    assert float(rates[0].mean()) > 0.3
    assert float(rates[1].max()) < 2 / 24
    seen = Observation((0,), (client.answer(sent),))
    right, false = client.judged(Qbi().claim(seen, client.knows, np.random.default_rng(0), print))
    assert false == 0
    assert right >= 12
