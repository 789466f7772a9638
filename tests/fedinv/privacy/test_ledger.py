from dataclasses import replace

from fedinv.privacy import ledger
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
