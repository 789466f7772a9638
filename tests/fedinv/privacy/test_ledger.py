import math
from dataclasses import replace

import pytest

from fedinv.privacy import ledger
from fedinv.privacy.claims import epsilon
from fedinv.privacy.events import PrivacyEvent

EVENT = PrivacyEvent(1.0, 0.25, 10, 1e-5, "example", "add-or-remove-one", "dp-sgd")


def test_it_survives_text_and_adds_up_steps():
    kept = ()
    for _ in range(3):
        kept = ledger.read(ledger.write(ledger.charge(kept, [EVENT])))
    assert kept == (replace(EVENT, steps=30),)
    assert ledger.read("") == ()


def test_another_rate_is_another_entry():
    kept = ledger.charge(ledger.charge((), [EVENT]), [replace(EVENT, sampling_rate=0.5)])
    assert [(e.sampling_rate, e.steps) for e in kept] == [(0.25, 10), (0.5, 10)]


def test_a_round_is_refused_only_when_it_would_overdraw_the_budget():
    charged = replace(EVENT, budget=8.0)
    kept, rounds = (), 0
    while ledger.overspent(kept, [charged]) is None:
        kept, rounds = ledger.charge(kept, [charged]), rounds + 1
    assert 1 <= rounds < 10
    said = ledger.overspent(kept, [charged])
    assert "budget of epsilon 8 is spent" in said
    assert ledger.overspent(kept, [EVENT]) is None


def test_rounds_that_lack_noise_are_charged_with_what_arrived():
    # a round's noise by 20 clients, calibrated for epsilon 8 over two rounds, 12 of them lost in both
    whole = PrivacyEvent(1.6985576966756517, 1.0, 2, 1e-5, "client", "replace-one", "distributed-noise", shares=20.0)
    assert epsilon([whole], 1e-5) == pytest.approx(8.0, abs=0.01)
    for lost, expected in ((0, 8.0), (4, 9.2), (8, 10.9), (12, 14.1)):
        real = ledger.recharged((whole,), [lost, lost])
        assert sum(event.steps for event in real) == 2
        assert epsilon(real, 1e-5) == pytest.approx(expected, abs=0.06)
    assert epsilon(ledger.recharged((whole,), [20]), 1e-5) == math.inf


def test_only_noise_that_is_shared_is_lost_with_others():
    own = PrivacyEvent(2.0, 1.0, 3, 1e-5, "client", "replace-one", "clip-noise")
    assert ledger.recharged((own,), [5, 5, 5]) == (own,)


def test_where_few_are_trusted_those_that_drop_out_are_taken_to_be_trusted_ones():
    half = PrivacyEvent(2.0, 1.0, 1, 1e-5, "client", "replace-one", "distributed-noise", shares=10.0)
    (real,) = ledger.recharged((half,), [4])
    assert real.noise_multiplier == pytest.approx(2.0 * math.sqrt(6 / 10))


def test_all_rows_of_a_person_cost_more_than_one_and_no_less_than_group_privacy_finds_without_sampling():
    one = PrivacyEvent(8.0, 1.0, 4, 1e-5, "example", "add-or-remove-one", "dp-sgd")
    three = ledger.of_rows(one, 3)
    assert epsilon([three], 1e-5) == pytest.approx(epsilon([replace(one, noise_multiplier=8 / 3)], 1e-5))
    sampled = ledger.of_rows(replace(one, sampling_rate=0.1), 3)
    assert sampled.sampling_rate == pytest.approx(1 - 0.9**3)
    assert ledger.of_rows(one, 1) == one
