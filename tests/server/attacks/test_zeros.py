from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from clients.mechanisms.pruning import largest
from clients.training.plain_training import plain_training
from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.data.sources.hospital import Hospital
from fedinv.federation.training import Job, Training
from fedinv.judge.matching import match
from fedinv.task.foreign.layers import Layer
from fedinv.task.foreign.update import layer_update
from fedinv.task.models import Mlp, build, state
from fedinv.task.optimizers import SGD, Adam, AdamW, RmsProp
from server.attacks.zeros import Zeros
from server.inversion.support import classes, reading
from server.inversion.support.tuples import Tuples

MODEL = Mlp(hidden=(256, 128))
ADAM = Adam()


@cache
def _people():
    table = Hospital(source="hospital", records=200).load(7)
    return table.schema, table.schema.encode(table.columns), torch.from_numpy(np.asarray(table.labels, np.int64))


@cache
def _see(n, epochs=1, size=None, optimizer=ADAM, seed=1, model=MODEL, **training):
    """The update of n records after epochs by `size`, or after one step, with all knowledge, and the records."""
    schema, inputs, labels = _people()
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(inputs))[:n]
    network = build(model, schema.shape, schema.outputs, seed)
    sent = {name: tensor.clone() for name, tensor in state(network).items()}
    size = size or n
    order = [rng.permutation(n) for _ in range(epochs)]
    batches = tuple(one[i : i + size] for one in order for i in range(0, n, size))
    settings = Training("fedavg", epochs, size, training.pop("lr", 1e-3), optimizer=optimizer, **training)
    received = plain_training(Job(network, inputs[rows], labels[rows], batches, settings, rng))
    knows = Knowledge(
        model=model,
        loss="cross-entropy",
        schema=schema,
        algorithm="fedavg",
        lr=settings.lr,
        batch_size=size,
        epochs=epochs,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        optimizer=optimizer,
        proximal=settings.proximal,
    )
    return Observation((0,), (Exchange(1, sent, received, n),)), knows, inputs[rows], labels[rows]


def _run(seen, knows, **settings):
    return Zeros(**settings).run(seen, knows, np.random.default_rng(0), lambda _: None)


def _judged(claim, x):
    schema = _people()[0]
    return match(claim.records, schema.decode(x), schema, 0.319)


def _changed(seen, change):
    received = {name: change(tensor) for name, tensor in seen.last.received.items()}
    return Observation((0,), (replace(seen.last, received=received),))


@pytest.mark.parametrize("optimizer", [ADAM, AdamW(), RmsProp()], ids=lambda one: one.kind)
def test_one_adaptive_step_gives_up_every_record_and_label_to_every_digit(optimizer):
    seen, knows, x, y = _see(8, optimizer=optimizer, weight_decay=0.01 if optimizer.kind == "adamw" else 0.0)
    claim = _run(seen, knows)
    found = _judged(claim, x)
    assert found.exact.all()
    assert torch.equal(claim.labels[found.claim], y)
    assert claim.verified.all()


@pytest.mark.parametrize(
    ("optimizer", "training"),
    [
        (ADAM, {}),
        (AdamW(), {"weight_decay": 0.01}),
        (RmsProp(), {}),
        (SGD, {"momentum": 0.9, "lr": 0.01}),
    ],
    ids=["adam", "adamw", "rmsprop", "momentum"],
)
def test_local_epochs_of_any_optimizer_give_up_every_record(optimizer, training):
    seen, knows, x, y = _see(6, epochs=4, optimizer=optimizer, **training)
    claim = _run(seen, knows)
    found = _judged(claim, x)
    assert found.recovered.all()
    assert torch.equal(claim.labels[found.claim], y)
    assert claim.verified.all()


def test_what_the_largest_entries_alone_tell_is_read_and_verified_by_them():
    seen, knows, x, y = _see(4, epochs=3)
    sent = largest(dict(seen.last.received), 0.3)
    seen = Observation((0,), (replace(seen.last, received=sent),))
    claim = _run(seen, replace(knows, defenses=({"kind": "top-k", "keep": 0.3},)))
    found = _judged(claim, x)
    assert found.exact.all()
    assert torch.equal(claim.labels[found.claim], y)
    assert claim.mismatch < 0.2
    assert claim.verified.all()


def test_signs_with_zeros_give_up_records_though_none_can_be_verified():
    seen, knows, x, y = _see(6, epochs=4)
    claim = _run(_changed(seen, lambda t: t.sign() * 1e-3), knows)
    found = _judged(claim, x)
    assert found.right.mean() > 0.95
    assert torch.equal(claim.labels[found.claim], y)
    assert not claim.verified.any()
    assert any("signs" in note for note in claim.notes)


def test_the_order_of_batches_is_read_off_the_update():
    seen, knows, x, y = _see(6, epochs=3, size=3)
    claim = _run(seen, knows)
    found = _judged(claim, x)
    assert found.recovered.all()
    assert torch.equal(claim.labels[found.claim], y)
    assert claim.verified.all()


@pytest.mark.parametrize(("n", "size"), [(8, 4), (6, 2), (7, 3)])
def test_each_batch_of_a_single_epoch_is_read_by_itself(n, size):
    seen, knows, x, y = _see(n, size=size)
    claim = _run(seen, knows)
    found = _judged(claim, x)
    assert found.exact.all()
    assert torch.equal(claim.labels[found.claim], y)
    assert claim.verified.all()


def test_an_epoch_whose_steps_are_not_told_apart_is_read_all_at_once():
    seen, knows, x, _ = _see(6, size=3, optimizer=RmsProp())
    claim = _run(seen, knows)
    assert len(claim.records)
    assert _judged(claim, x).right.mean() > 0.5


def test_what_limits_of_its_own_ended_is_said_to_be_unfinished():
    seen, knows, _, _ = _see(6, epochs=3, size=3)
    assert _run(seen, knows).unfinished == ()
    short = _run(seen, knows, seconds=1e-6)
    assert short.unfinished == ("its 1e-06 seconds were over",)
    assert not short.verified.any()
    assert _run(seen, knows, most_records=5).unfinished == ("6 records, the attack tries 1 to 5",)
    many = _run(*_see(6, epochs=11, size=3)[:2])
    assert many.unfinished == ("2 batches in each of 11 epochs are too many orders to try: numbers are not fitted",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t * 0, "zero"),
        (lambda t: t * float("nan"), "not finite"),
        (lambda t: t + 1e-5 * torch.randn(t.shape, generator=torch.Generator().manual_seed(1)), "equally"),
    ],
)
def test_updates_that_say_nothing_are_named(change, says):
    seen, knows, _, _ = _see(6, epochs=4)
    claim = _run(_changed(seen, change), knows)
    assert not len(claim.records)
    assert says in claim.notes[0]
    assert claim.unfinished == ()


def test_noise_on_a_single_epoch_is_no_search_that_was_not_finished():
    seen, knows, _, _ = _see(8, size=4)
    noise = torch.Generator().manual_seed(1)
    claim = _run(_changed(seen, lambda t: t + 1e-5 * torch.randn(t.shape, generator=noise)), knows)
    assert not len(claim.records)
    assert claim.unfinished == ()


def test_what_it_needs_is_named():
    seen, knows, _, _ = _see(6, epochs=4)
    for less, says in (
        ({"model": None}, "ReLU"),
        ({"model": Mlp(hidden=(256, 128), activation="gelu")}, "ReLU"),
        ({"schema": None}, "schema"),
        ({"lr": None}, "learning rate"),
        ({"epochs": None}, "epochs"),
        ({"loss": "squared-error"}, "number"),
    ):
        claim = _run(seen, replace(knows, **less))
        assert not len(claim.records)
        assert says in claim.notes[0]


def test_the_same_arguments_give_the_same_claim():
    seen, knows, _, _ = _see(6, epochs=4)
    first, second = (_run(seen, knows, iterations=2, entries=500) for _ in range(2))
    assert torch.equal(first.records, second.records)


def test_the_leak_map_names_it_where_entries_of_one_hot_inputs_rest():
    seen, _, _, _ = _see(6, epochs=4)
    layer = Layer("0", "Linear", "0.weight", "0.bias", "record", "relu", 1, mixed=False)
    last = seen.last
    found = Zeros.reads(layer_update(layer, last.sent, last.received), None)
    assert found.applies
    moved = {name: tensor + 1e-4 for name, tensor in last.received.items()}
    assert "no entry rests" in Zeros.reads(layer_update(layer, last.sent, moved), None).says
    smooth = replace(layer, gate="smooth")
    assert "no ReLU" in Zeros.reads(layer_update(smooth, last.sent, last.received), None).says


@pytest.mark.parametrize("missing", [1, 2])
def test_what_a_search_in_the_spans_misses_is_read_off_what_the_others_leave(missing, monkeypatch):
    seen, knows, x, y = _see(8)
    searched = reading._by_magnitude

    def less(*given):
        found = searched(*given)
        assert len(found.records) == 8
        kept = slice(None, 8 - missing)
        return replace(found, records=found.records[kept], labels=found.labels[kept], checked=found.checked[kept])

    monkeypatch.setattr(reading, "_by_magnitude", less)
    claim = _run(seen, knows)
    found = _judged(claim, x)
    assert found.exact.all()
    assert torch.equal(claim.labels[found.claim], y)
    assert claim.verified.all()


def test_records_found_one_by_one_stay_verified_where_the_others_are_not_found(monkeypatch):
    seen, knows, x, _ = _see(8)
    none = reading.Batch(torch.zeros(0, x.shape[1], dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
    searched = reading._by_magnitude

    def less(*given):
        found = searched(*given)
        return replace(found, records=found.records[:7], labels=found.labels[:7], checked=found.checked[:7])

    monkeypatch.setattr(reading, "_by_magnitude", less)
    monkeypatch.setattr(reading, "remaining", lambda *given: none)
    monkeypatch.setattr(reading, "by_classes", lambda *given: reading.Found(none.records, none.labels, []))
    claim = _run(seen, knows)
    assert (len(claim.records), int(claim.verified.sum()), claim.mismatch) == (7, 7, None)
    assert "7 of 8 records found" in claim.notes[0]
    assert claim.unfinished == ("zeros found 7 of 8 records: what moved in the update is not all explained",)
    assert int(_judged(claim, x).recovered.sum()) == 7


def test_a_search_that_ends_with_wrong_records_is_said_to_be_unfinished(monkeypatch):
    seen, knows, _, _ = _see(6, size=3)

    def wrong(*given):
        found = classes.by_batches(*given)
        return replace(found, records=found.records.roll(1, 0))

    monkeypatch.setattr(reading, "by_batches", wrong)
    claim = _run(seen, knows)
    assert not claim.verified.any()
    assert claim.unfinished == ("some records are wrong: what moved in the update is not all explained",)


def test_a_search_that_finds_none_where_entries_rest_is_said_to_be_unfinished(monkeypatch):
    seen, knows, _, _ = _see(6, epochs=4)

    def none(entries, admits):
        return Tuples(torch.zeros(0, entries.groups, dtype=torch.int64), torch.zeros(0), torch.zeros(0))

    monkeypatch.setattr(classes, "find_tuples", none)
    claim = _run(seen, knows)
    assert not len(claim.records)
    assert len(claim.unfinished) == 1
    assert "names a record" in claim.unfinished[0]
