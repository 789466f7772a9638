from dataclasses import replace

import numpy as np
import pytest
import torch

from fedinv.attack import Knowledge, Observation
from fedinv.judge.matching import match
from fedinv.task.networks.perceptron import Logistic, Mlp
from server.attacks.row_space import RowSpace
from server.inversion.row_space import reading
from server.inversion.row_space.search import FoundRecords
from tests.server.attacks.test_exact import SCHEMA, _change, _noisy, _see

ATTACK = RowSpace()
NARROW = Mlp(hidden=(100, 100))


def _run(seen, knows, attack=ATTACK, seed=0):
    return attack.run(seen, knows, np.random.default_rng(seed), lambda share: None)


def _judged(claim, x):
    return match(claim.records, SCHEMA.decode(x), SCHEMA, 0.319)


@pytest.mark.parametrize("n", [1, 8, 32])
def test_a_narrow_networks_single_step_gives_up_every_record_and_label(n):
    seen, knows, x, y = _see(n, model=NARROW)
    claim = _run(seen, knows)
    found = _judged(claim, x)
    assert found.exact.all()
    assert torch.equal(claim.labels[found.claim], y)
    assert claim.mismatch < 1e-4
    assert (claim.confidence > 0.99).all()
    assert claim.notes == ()


def test_a_batch_larger_than_the_record_is_wide_is_found():
    seen, knows, x, _ = _see(64, model=Mlp(hidden=(256, 256)))
    assert x.shape[1] < 64
    found = _judged(_run(seen, knows), x)
    assert found.exact.mean() > 0.95


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_local_epochs_leave_whole_records(momentum):
    seen, knows, x, _ = _see(24, algorithm="fedavg", model=Mlp(hidden=(128, 128)), momentum=momentum)
    claim = _run(seen, knows)
    found = _judged(claim, x)
    assert found.recovered.mean() >= 0.9
    assert len(claim.records) <= 24
    assert any("approximate" in note for note in claim.notes)


def test_a_single_hidden_layer_gives_up_batches_that_its_inputs_span():
    seen, knows, x, _ = _see(12, model=Mlp(hidden=(200,)))
    assert _judged(_run(seen, knows), x).exact.all()


def test_neither_schema_nor_learning_rate_are_needed():
    seen, knows, x, _ = _see(8, model=NARROW)
    for less in (replace(knows, schema=None), replace(knows, lr=None)):
        assert _judged(_run(seen, less), x).exact.all()


def test_a_record_that_is_there_twice_is_claimed_twice():
    _, _, x, _ = _see(8)
    x[3] = x[5]
    seen, knows, x, _ = _see(8, model=NARROW, x=x)
    claim = _run(seen, knows)
    # the two may carry different labels: then each is one of a label, and the sum no whole number of either
    assert len(claim.records) in (7, 8)
    assert _judged(claim, x).exact.sum() >= 7


def test_without_the_schema_only_records_whose_slopes_fit_are_claimed_after_several_steps(monkeypatch):
    seen, knows, x, _ = _see(16, 1, algorithm="fedavg", model=NARROW)
    wrong = SCHEMA.draw(8, np.random.default_rng(3))
    found = FoundRecords(torch.cat([x[:8], wrong]).double(), torch.zeros(16, dtype=torch.float64))
    monkeypatch.setattr(reading, "find", lambda wanted, budget, progress: found)
    for less in (replace(knows, schema=None), Knowledge(model=NARROW)):
        claim = _run(seen, less)
        assert torch.equal(claim.records, x[:8])
        assert claim.verified.all()
        assert any("8 records that could not be verified are withheld" in note for note in claim.notes)
    claim = _run(seen, knows)  # a schema's categories have been checked: nothing is withheld
    assert claim.verified.tolist() == 8 * [True] + 8 * [False]


def test_with_the_schema_records_that_fit_well_are_verified_where_their_slopes_fit_rather_well(monkeypatch):
    seen, knows, x, _ = _see(16, 1, algorithm="fedavg", model=NARROW)
    found = FoundRecords(x[:8].double(), torch.tensor([0.3, 0.3, 0.5, 0.5, 0.3, 0.3, 0.5, 0.5]).double())
    apart = torch.tensor([0.4, 0.7, 0.4, 0.7, 0.9, torch.inf, 0.9, torch.inf])
    monkeypatch.setattr(reading, "find", lambda wanted, budget, progress: found)
    monkeypatch.setattr(reading, "slopes_apart", lambda *_: apart)
    assert _run(seen, knows).verified.tolist() == [True, True, True, False, False, False, False, False]
    assert _run(seen, replace(knows, schema=None)).verified.tolist() == [True, True]  # those of 0.4 alone


def test_where_no_slopes_fit_nothing_is_claimed(monkeypatch):
    seen, knows, _, _ = _see(16, 1, algorithm="fedavg", model=NARROW)
    wrong = SCHEMA.draw(16, np.random.default_rng(3)).double()
    found = FoundRecords(wrong, torch.zeros(16, dtype=torch.float64))
    monkeypatch.setattr(reading, "find", lambda wanted, budget, progress: found)
    claim = _run(seen, replace(knows, schema=None))
    assert not len(claim.records)
    assert "16 candidates fulfill the equations" in claim.notes[0]


def test_most_of_a_right_part_of_a_batch_is_verified_though_it_cannot_explain_the_update():
    seen, knows, x, _ = _see(32, 1, algorithm="fedavg", model=Mlp(hidden=(96, 96)))
    claim = _run(seen, knows, RowSpace(rounds=1))
    assert 8 < len(claim.records) < 32
    assert claim.mismatch > 0.45
    assert _judged(claim, x).recovered.sum() == len(claim.records)
    assert claim.verified.float().mean() >= 0.7


def test_weight_decay_that_is_known_is_taken_out():
    seen, knows, x, _ = _see(8, model=NARROW, decay=0.01)
    assert _judged(_run(seen, knows), x).exact.all()


def test_too_many_records_for_the_width_are_named():
    seen, knows, _, _ = _see(64, model=Mlp(hidden=(40, 40)))
    claim = _run(seen, knows)
    assert len(claim.records) == 0
    assert "too many records" in claim.notes[0]


@pytest.mark.parametrize("told", [True, False])
def test_noise_gives_no_rubbish(told):
    seen, knows, _, _ = _see(8, model=NARROW)
    size = float(seen.last.received["0.weight"].square().mean().sqrt())
    noisy = _noisy(seen, size)
    if told:
        knows = replace(knows, defenses=({"kind": "clip-noise", "clip": 1.0, "noise_multiplier": size},))
    assert len(_run(noisy, knows).records) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t * 0, "zero"),
        (lambda t: t * float("nan"), "not finite"),
        (lambda t: t[..., :-1], "parameters that were sent"),
        (lambda t: t * 1e9, "masked"),
    ],
)
def test_a_bad_update_is_named(change, says):
    seen, knows, _, _ = _see(4, model=NARROW)
    claim = _run(_change(seen, change), knows)
    assert len(claim.records) == 0
    assert says in claim.notes[0]


def test_other_networks_and_withheld_knowledge_are_named():
    seen, knows, _, _ = _see(4, model=NARROW)
    for less in (replace(knows, model=None), replace(knows, model=Logistic())):
        assert "perceptron" in _run(seen, less).notes[0]
    assert "architecture" in _run(seen, replace(knows, model=Mlp(hidden=(100, 90)))).notes[0]
    many = Observation((0,), (replace(seen.last, records=10_000),))
    assert "tries 1 to" in _run(many, knows).notes[0]


def test_the_same_arguments_give_the_same_claim():
    seen, knows, _, _ = _see(8, model=NARROW)
    first, second = _run(seen, knows), _run(seen, knows)
    assert torch.equal(first.records, second.records)
    assert torch.equal(first.confidence, second.confidence)


def test_it_keeps_off_torchs_global_generator():
    seen, knows, _, _ = _see(4, model=NARROW)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    _run(seen, knows)
    assert torch.equal(before, torch.get_rng_state())
