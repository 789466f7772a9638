"""Texts read off the spans of a transformer's update."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from clients.training.plain_training import plain_training
from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.data.sources.clinical_notes import ClinicalNotes
from fedinv.federation.training import Job, Training
from fedinv.judge.matching import match
from fedinv.task.models import Mlp, build, state
from fedinv.task.networks.transformer import Decoder, Encoder
from fedinv.task.optimizers import Adam
from server.attacks.span_tokens import SpanTokens

DECODER = Decoder(width=64, heads=2)


@cache
def _notes(length):
    table = ClinicalNotes(source="clinical-notes", records=60, length=length).load(7)
    return table.schema, table.schema.encode(table.columns), torch.from_numpy(np.asarray(table.labels, np.int64))


@cache
def _see(n, model=DECODER, length=12, seed=1, doubled=False, epochs=1):
    """The update of one step on n notes, with all knowledge, and the notes; `doubled`: the first of them twice."""
    schema, inputs, labels = _notes(length)
    rows = np.random.default_rng(seed).permutation(len(inputs))[:n]
    rows = np.append(rows, rows[0]) if doubled else rows
    network = build(model, schema.shape, schema.outputs, seed)
    sent = {name: tensor.clone() for name, tensor in state(network).items()}
    settings = Training("fedsgd" if epochs == 1 else "fedavg", epochs, len(rows), 0.05)
    batches = (np.arange(len(rows)),) * epochs
    job = Job(network, inputs[rows], labels[rows], batches, settings, np.random.default_rng(0))
    knows = Knowledge(model=model, loss="cross-entropy", schema=schema, algorithm=settings.algorithm, lr=0.05)
    knows = replace(knows, epochs=epochs, batch_size=len(rows)) if epochs > 1 else knows
    seen = Observation((0,), (Exchange(1, sent, plain_training(job), len(rows)),))
    return seen, knows, inputs[rows], labels[rows]


def _run(seen, knows, **settings):
    return SpanTokens(**settings).run(seen, knows, np.random.default_rng(0), lambda _: None)


def _with(seen, change):
    last = seen.last
    return replace(seen, exchanges=(replace(last, received={n: change(t) for n, t in last.received.items()}),))


def _exact(claim, truth, schema):
    return int(match(claim.records, schema.decode(truth), schema, 0.0).exact.sum())


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_every_note_of_a_batch_is_read_with_its_label(norm, rows):
    seen, knows, notes, labels = _see(3, Decoder(width=64, heads=2, norm=norm))
    claim = _run(seen, knows, rows=rows)
    found = match(claim.records, knows.schema.decode(notes), knows.schema, 0.0)
    assert (len(claim.records), int(found.exact.sum())) == (3, 3)
    assert claim.labels[torch.from_numpy(found.claim)].tolist() == labels.tolist()
    assert claim.mismatch < 1e-4
    assert bool(claim.verified.all())
    assert claim.confidence.min() > 0.9


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_read_in_both_directions_is_searched_as_a_whole(count):
    seen, knows, notes, _ = _see(count, Encoder(width=64, heads=2))
    claim = _run(seen, knows)
    assert (len(claim.records), _exact(claim, notes, knows.schema)) == (count, count)
    assert claim.mismatch < 1e-4


def test_texts_of_an_encoder_that_were_not_found_are_said_to_be_missing():
    seen, knows, notes, _ = _see(4, Encoder(width=64, heads=2))
    claim = _run(seen, knows, starts=3)
    assert (len(claim.records), _exact(claim, notes, knows.schema)) == (3, 3)
    assert claim.unfinished == ("1 text of the batch was not found",)
    assert _run(seen, knows).unfinished == ()


def test_a_text_that_hardly_moves_the_network_is_said_to_be_missing():
    seen, knows, notes, labels = _see(3)
    sent = {**seen.last.sent, "0.head.bias": 9.0 * torch.nn.functional.one_hot(labels[0], 2).float()}
    assert len(set(labels.tolist())) == 2
    network = build(DECODER, knows.schema.shape, knows.schema.outputs, 1)
    network.load_state_dict(sent)
    job = Job(network, notes, labels, (np.arange(3),), Training("fedsgd", 1, 3, 0.05), np.random.default_rng(0))
    last = replace(seen.last, sent=sent, received=plain_training(job))
    claim = _run(replace(seen, exchanges=(last,)), knows)
    assert 0 < _exact(claim, notes, knows.schema) == len(claim.records) < 3
    assert "not found" in claim.unfinished[0]


def test_several_local_steps_hide_no_note():
    seen, knows, notes, labels = _see(2, epochs=3)
    claim = _run(seen, knows)
    assert (len(claim.records), _exact(claim, notes, knows.schema)) == (2, 2)
    found = match(claim.records, knows.schema.decode(notes), knows.schema, 0.0)
    assert claim.labels[torch.from_numpy(found.claim)].tolist() == labels.tolist()
    assert bool(claim.verified.all())


@pytest.mark.parametrize(("adapted", "why"), [((), "wide"), (("query", "value", "wide"), "full rank")])
def test_adapters_that_tell_too_little_are_said_to(adapted, why):
    model = Decoder(width=64, heads=2, lora_rank=8, **({"adapted": adapted} if adapted else {}))
    seen, knows, *_ = _see(1, model)
    claim = _run(seen, knows)
    assert len(claim.records) == 0
    assert why in claim.notes[0]


def test_notes_of_different_lengths_end_where_they_end():
    model = Decoder(width=256, heads=4)
    seen, knows, notes, _ = _see(2, model, length=90)
    assert len(set((notes != 0).sum(1).tolist())) == 2
    assert (notes == 0).any(1).all()
    assert _exact(_run(seen, knows), notes, knows.schema) == 2


def test_a_note_that_is_twice_in_the_batch_is_claimed_twice():
    seen, knows, notes, _ = _see(2, doubled=True)
    claim = _run(seen, knows)
    assert len(claim.records) == 3
    assert _exact(claim, notes, knows.schema) == 3
    assert claim.mismatch < 1e-4


def test_the_count_of_the_message_changes_no_note():
    seen, knows, notes, _ = _see(3)
    wrong = replace(seen, exchanges=(replace(seen.last, records=1),))
    claim = _run(wrong, knows)
    assert _exact(claim, notes, knows.schema) == 3
    assert claim.notes == ("3 texts fit the spans of the update, and the message counts 1",)


def test_a_batch_with_more_tokens_than_the_network_is_wide_tells_nothing_and_says_so():
    seen, knows, *_ = _see(8)
    claim = _run(seen, knows)
    assert len(claim.records) == 0
    assert "full rank" in claim.notes[0]


@pytest.mark.parametrize("share", [1e-3, 1.0])
def test_noise_that_it_does_not_know_of_leaves_nothing_to_claim(share):
    seen, knows, *_ = _see(2)
    draw = torch.Generator().manual_seed(3)
    noisy = _with(seen, lambda t: t + share * t.std() * torch.randn(t.shape, generator=draw) if t.numel() > 1 else t)
    claim = _run(noisy, knows)
    assert len(claim.records) == 0
    assert "full rank" in claim.notes[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": None}, "the schema is withheld"),
        ({"model": None}, "the architecture is withheld"),
        ({"model": Mlp()}, "the records are no texts"),
        ({"optimizer": Adam()}, "no row space"),
    ],
)
def test_what_it_needs_and_does_not_have_is_said(change, why):
    seen, knows, *_ = _see(2)
    claim = _run(seen, replace(knows, **change))
    assert len(claim.records) == 0
    assert why in claim.notes[0]


def test_a_withheld_learning_rate_costs_the_verification_alone():
    seen, knows, notes, _ = _see(2)
    claim = _run(seen, replace(knows, lr=None))
    assert _exact(claim, notes, knows.schema) == 2
    assert claim.mismatch is None
    assert bool(claim.checked.all())


@pytest.mark.parametrize("adapted", [("query", "value", "wide"), ("query", "key", "value", "wide")])
def test_adapters_of_a_rank_above_the_tokens_give_up_every_note(adapted):
    # the first token's query has no slope, and keys tell differences alone: an adapter's own span lacks something
    seen, knows, notes, _ = _see(2, Decoder(width=64, heads=2, lora_rank=32, adapted=adapted))
    claim = _run(seen, knows)
    assert _exact(claim, notes, knows.schema) == 2
    assert claim.verified.all()
