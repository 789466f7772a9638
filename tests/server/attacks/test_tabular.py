"""Attacks on networks of tables: each variant must leak what its equations say, and nothing where there is noise."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import fedinv
from clients.training.plain_training import plain_training
from fedinv.attack import EXPLAINS, Claim, Exchange, Knowledge, Observation
from fedinv.data.sources.hospital import Hospital
from fedinv.federation.training import Job, Training
from fedinv.judge.matching import match
from fedinv.task.models import build, state
from fedinv.task.networks.tabular import Tabular
from fedinv.task.optimizers import SGD, Adam
from server.attacks.exact import Exact
from server.attacks.gradient_matching import GradientMatching
from server.attacks.row_space import RowSpace
from server.inversion.row_space import encoded

VARIANTS = {
    "embeddings": {},
    "one logit": {"logits": "one"},
    "ordinal": {"encoding": "ordinal"},
    "one-hot": {"encoding": "one-hot"},
    "layer norm": {"norm": "layer"},
    "group norm": {"norm": "group"},
    "batch norm": {"norm": "batch"},
    "residual": {"residual": True},
    "gelu": {"activation": "gelu"},
    "silu": {"activation": "silu"},
    "no bias": {"bias": False},
    "dropout": {"dropout": 0.2},
}
"""Keys of each variant of the network."""


@cache
def _people():
    table = Hospital(source="hospital", records=200).load(7)
    return table.schema, table.schema.encode(table.columns), torch.from_numpy(np.asarray(table.labels, np.int64))


def _see(n=6, epochs=1, seed=1, hidden=(128, 128), optimizer=SGD, **keys):
    """The update of n records in one step, or after epochs of one step each, with all knowledge, and the rows."""
    schema, inputs, labels = _people()
    model = Tabular(hidden=hidden, **keys).fitted(schema)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(inputs))[:n]
    network = build(model, schema.shape, schema.outputs, seed)
    sent = {name: tensor.clone() for name, tensor in state(network).items()}
    algorithm = "fedsgd" if epochs == 1 else "fedavg"
    settings = Training(algorithm, epochs, n, 0.05, optimizer=optimizer)
    batches = tuple(np.arange(n) for _ in range(epochs))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        received = plain_training(Job(network, inputs[rows], labels[rows], batches, settings, rng))
    knows = Knowledge(
        model=model,
        loss="cross-entropy",
        schema=schema,
        algorithm=algorithm,
        lr=0.05,
        batch_size=n,
        epochs=epochs,
        momentum=0.0,
        weight_decay=0.0,
        optimizer=optimizer,
    )
    return Observation((0,), (Exchange(1, sent, received, n),)), knows, rows


def _run(attack, seen, knows):
    return attack.run(seen, knows, np.random.default_rng(0), lambda _: None)


def _right(claim, rows):
    schema = _people()[0]
    table = Hospital(source="hospital", records=200).load(7)
    return match(claim.records, table.take(rows).columns, schema, 0.319)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_gives_away_all_records_of_a_batch(variant):
    seen, knows, rows = _see(**VARIANTS[variant])
    claim = _run(RowSpace(), seen, knows)
    assert len(claim.records) == 6, claim.notes
    assert _right(claim, rows).exact.all()
    if variant != "dropout":
        assert claim.mismatch < 1e-4 and claim.verified.all()
        truth = {tuple(_people()[1][row].tolist()): int(_people()[2][row]) for row in rows}
        nearest = [min(truth, key=lambda t, r=r: float((torch.tensor(t) - r).abs().max())) for r in claim.records]
        assert claim.labels.tolist() == [truth[one] for one in nearest]


@pytest.mark.parametrize("attack", [Exact(), RowSpace()], ids=lambda one: one.kind)
def test_a_record_alone_passes_a_batch_normalization_by_the_running_statistics(attack):
    seen, knows, rows = _see(n=1, norm="batch")
    assert _right(_run(attack, seen, knows), rows).exact.all()


@pytest.mark.parametrize("attack", [Exact(), RowSpace()], ids=lambda one: one.kind)
def test_the_schema_can_be_done_without(attack):
    seen, knows, rows = _see()
    claim = _run(attack, seen, replace(knows, schema=None))
    assert len(claim.records) == 6
    assert _right(claim, rows).exact.all()


def test_records_of_several_local_steps_are_told_by_tables_that_moved_a_little():
    seen, knows, rows = _see(epochs=5, hidden=(256, 256))
    claim = _run(RowSpace(), seen, knows)
    found = _right(claim, rows)
    assert found.recovered.sum() >= 5
    assert claim.verified.sum() >= 5


@pytest.mark.parametrize("variant", ["embeddings", "layer norm", "dropout"])
def test_noise_gives_nothing_and_says_why(variant):
    seen, knows, _ = _see(**VARIANTS[variant])
    generator = torch.Generator().manual_seed(0)
    last = seen.last
    noisy = {n: torch.randn(t.shape, generator=generator) * 1e-3 for n, t in last.received.items()}
    for attack in (RowSpace(), Exact()):
        claim = _run(attack, replace(seen, exchanges=(replace(last, received=noisy),)), knows)
        assert len(claim.records) == 0
        assert "nothing claimed" in claim.notes[0]


@pytest.mark.parametrize("variant", ["ordinal", "residual", "group norm", "batch norm"])
def test_gradient_matching_differentiates_every_layer(variant):
    seen, knows, _ = _see(n=1, hidden=(16, 16), **VARIANTS[variant])
    claim = _run(GradientMatching(restarts=2, iterations=30, simulate=0, polish=0), seen, knows)
    assert not any("not known to gradient matching" in note for note in claim.notes)
    assert len(claim.records) or "is chance" in claim.notes[0]


def test_a_single_step_of_adam_is_read_back_to_gradients():
    seen, knows, rows = _see(encoding="ordinal", logits="one", optimizer=Adam())
    claim = _run(RowSpace(), seen, knows)
    assert _right(claim, rows).recovered.all()
    several, knows, _ = _see(epochs=2, encoding="ordinal", optimizer=Adam())
    assert "no row space" in _run(RowSpace(), several, knows).notes[0]


def test_the_python_api_tries_them_by_itself():
    seen, knows, rows = _see(norm="layer")
    model = knows.model.model_dump()
    last = seen.last
    found = fedinv.invert(
        last.received, sent=last.sent, model=model, schema=knows.schema, records=6, lr=0.05, algorithm="fedsgd"
    )
    assert _right(found, rows).exact.all()


def test_what_is_missing_is_said():
    seen, knows, _ = _see()
    for wrong, words in (
        (replace(knows, model=None), "architecture is withheld"),
        (replace(knows, model=knows.model.model_copy(update={"hidden": (64,)})), "not of the architecture"),
    ):
        assert any(words in note for note in _run(RowSpace(), seen, wrong).notes)


def test_a_whole_batch_that_its_training_refutes_verifies_no_record():
    seen, knows, rows = _see(n=6, norm="layer")
    _, inputs, labels = _people()
    claim = Claim(inputs[rows], torch.ones(6), labels[rows], checked=torch.ones(6, dtype=torch.bool))
    rng = np.random.default_rng(0)
    assert encoded._compared(claim, seen.last, knows, rng).verified.all()
    wrong = replace(claim, records=torch.cat([claim.records[:1] * -1, claim.records[1:]]))
    found = encoded._compared(wrong, seen.last, knows, rng)
    assert found.mismatch > EXPLAINS
    assert not found.verified.any()
    part = replace(wrong, records=wrong.records[1:], labels=wrong.labels[1:], confidence=torch.ones(5))
    part = replace(part, checked=torch.ones(5, dtype=torch.bool))
    assert encoded._compared(part, seen.last, knows, rng).verified.all()
