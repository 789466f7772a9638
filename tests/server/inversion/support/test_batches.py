from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from clients.training.plain_training import plain_training
from fedinv.attack import Exchange, Knowledge
from fedinv.data.sources.hospital import Hospital
from fedinv.federation.training import Job, Training
from fedinv.task.models import Mlp, build, state
from fedinv.task.optimizers import SGD, Adam, AdamW, LocalDescent, RmsProp
from server.inversion.support.batches import by_batch, sizes
from server.inversion.support.entries import Entries, read_entries
from server.inversion.support.exchange import Search, exchanged
from server.inversion.support.half_spaces import numbers_alone
from server.inversion.support.replay import Course, joined, replay
from server.inversion.support.tuples import admitted, admitting

MODEL = Mlp(hidden=(256, 128))


@dataclass(frozen=True)
class Epoch:
    entries: Entries
    knows: Knowledge
    records: list[Tensor]
    reached: list[Tensor]


@cache
def _epoch(count, optimizer, decay=0.0, size=3):
    """An epoch of `count` batches of `size`: each one's records, and which entries it reached."""
    table = Hospital(source="hospital", records=200).load(7)
    schema, labels = table.schema, torch.from_numpy(np.asarray(table.labels, np.int64))[: count * size]
    x = schema.encode(table.columns)[: count * size]
    network = build(MODEL, schema.shape, schema.outputs, 1)
    sent = {name: tensor.clone() for name, tensor in state(network).items()}
    batches = tuple(np.arange(count * size).reshape(count, size))
    settings = Training("fedavg", 1, size, 1e-3, optimizer=optimizer, weight_decay=decay)
    received = plain_training(Job(network, x, labels, batches, settings, np.random.default_rng(0)))
    knows = Knowledge(
        model=MODEL,
        loss="cross-entropy",
        schema=schema,
        algorithm="fedavg",
        lr=1e-3,
        batch_size=size,
        epochs=1,
        weight_decay=decay,
        optimizer=optimizer,
    )
    entries = read_entries(Exchange(1, sent, received, len(x)), knows, schema)
    start, steps = joined(sent), tuple(torch.from_numpy(b) for b in batches)
    course = Course(start, knows.descent, steps, labels, torch.ones(len(start[-1]), dtype=torch.float64))
    seen, _ = replay(course, x.double())
    reached = [one.gradients()[0][:, entries.categories] != 0 for one in seen]
    return Epoch(entries, knows, [x[rows].double() for rows in steps], reached)


def test_adam_changes_an_entry_that_one_step_alone_reaches_by_another_size_at_each_step():
    low, high = sizes(LocalDescent(0.001, optimizer=Adam()), 2)
    assert torch.allclose(high / 0.001, torch.tensor([1.670, 0.744], dtype=torch.float64), atol=1e-3)
    assert bool((high - low < 0.003 * high).all())


@pytest.mark.parametrize("optimizer", [SGD, RmsProp()], ids=lambda one: one.kind)
def test_optimizers_that_do_not_tell_steps_apart_are_refused(optimizer):
    one = _epoch(2, optimizer)
    with pytest.raises(ValueError, match="apart"):
        by_batch(one.entries, one.knows, 2)


def test_an_epoch_in_which_nothing_rests_is_refused():
    one = _epoch(2, Adam())
    noised = replace(one.entries, moved=torch.ones_like(one.entries.moved), resting=torch.zeros_like(one.entries.moved))
    with pytest.raises(ValueError, match="no entry rests"):
        by_batch(noised, one.knows, 2)


@pytest.mark.parametrize(("count", "optimizer", "decay"), [(2, Adam(), 0.0), (3, Adam(), 0.0), (2, AdamW(), 0.01)])
def test_entries_are_told_by_the_batch_that_reached_them(count, optimizer, decay):
    one = _epoch(count, optimizer, decay)
    for own, reached in zip(by_batch(one.entries, one.knows, count), one.reached, strict=True):
        assert float((own.resting & reached).double().mean()) < 0.002
        assert float((own.moved & ~reached).double().mean()) < 0.002
        assert int(own.resting.sum()) > 0.8 * int((~reached).sum())
        assert not own.change[~own.moved].any()


def test_wrong_categories_are_exchanged_and_a_missing_record_is_found():
    one = _epoch(2, Adam(), size=6)
    own = by_batch(one.entries, one.knows, 2)[0]
    true = torch.stack([record[own.categories].nonzero()[:, 0] for record in one.records[0]])
    admits = admitting(own)
    first = true[:5].clone()
    column = (own.group == 2).nonzero()[:, 0]
    first[0, 2] = column[column != true[0, 2]][0]
    numbers = numbers_alone(own, first, admitted(admits, first))
    search = Search(6, torch.Generator().manual_seed(0))
    found, numbers = exchanged(own, admits, (first, numbers), first, search)
    assert {tuple(t) for t in found.tolist()} == {tuple(t) for t in true.tolist()}
    assert numbers.shape == (6, len(own.numbers))
