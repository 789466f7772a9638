from dataclasses import replace

import numpy as np
import pytest
import torch

from fedinv import roles
from fedinv.attack import Knowledge, Observation
from fedinv.task.networks.perceptron import Mlp

Slabs = roles.load("server", "malicious.first_layer.slabs").Slabs


def claimed(client, rounds, others=None):
    """Claim after some rounds; in the second of each two `others` trains in place of the client, where given."""
    seen = []
    for round_ in range(1, rounds + 1):
        rng = np.random.default_rng(round_)
        sent = Slabs().craft(client.blank(), client.knows, client.turn(round_, seen), rng)
        who = client if others is None or round_ % 2 else others
        seen.append(who.answer(sent, round_))
    return Slabs().claim(Observation((0,), tuple(seen)), client.knows, np.random.default_rng(0), print)


@pytest.mark.parametrize("hidden", [(48, 48), (48,), (48, 40, 48)])
def test_more_rounds_certify_more_until_it_is_all(clinic, hidden):
    client = clinic(60, *hidden)
    found = [client.judged(claimed(client, rounds)) for rounds in (2, 12)]
    assert [false for _, false in found] == [0, 0]
    assert found[0][0] < found[1][0]
    assert found[1][0] >= (60 if len(hidden) == 2 else 40)


def test_all_it_claims_is_verified_and_none_twice(clinic):
    client = clinic(60, 48, 48)
    claim = claimed(client, 8)
    assert len(claim.records) == client.judged(claim)[0]
    assert bool(claim.verified.all())


def test_records_that_differ_between_the_two_rounds_are_not_certified(clinic):
    client, others = clinic(20, 48, 48), clinic(20, 48, 48)
    others.people = others.people.flip(1)[:, torch.randperm(17, generator=torch.Generator().manual_seed(1))]
    assert len(claimed(client, 2).records)
    assert not len(claimed(client, 2, others).records)


def test_one_round_proves_nothing(clinic):
    claim = claimed(clinic(8, 48, 48), 1)
    assert not len(claim.records)
    assert "two watched rounds" in claim.notes[0]


def test_what_does_not_fit_is_refused_with_the_reason(clinic):
    client = clinic(4, 8, 8)
    assert "tanh" in Slabs().misfit(Mlp(hidden=(8,), activation="tanh"))
    told = client.knows
    for knows, said in (
        (Knowledge(), "schema is withheld"),
        (replace(told, algorithm="fedavg"), "fedsgd"),
        (replace(told, lr=None), "learning rate"),
    ):
        with pytest.raises(ValueError, match=said):
            Slabs().craft(client.blank(), knows, client.turn(), np.random.default_rng(0))
    for hidden in ((2,), (4, 4)):
        with pytest.raises(ValueError, match=r"too narrow|fewer than three units"):
            Slabs().craft(clinic(4, *hidden).blank(), told, client.turn(), np.random.default_rng(0))
