"""Column-token search: whole records behind an FT-Transformer, verified, and nothing where their spans are hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.models import build, state
from fedinv.task.networks.ft_transformer import FtTransformer
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema
from server.attacks.column_tokens import ColumnTokens

SCHEMA = Schema(
    columns=(
        *(Continuous(name=f"number {i}", mean=0, std=1, low=-3, high=3, mode=0) for i in range(4)),
        *(
            Categorical(name=f"category {i}", values=tuple("abcde"[:k]), frequencies=(1 / k,) * k)
            for i, k in enumerate((2, 3, 5, 4))
        ),
    ),
    label="ill",
    classes=("no", "yes"),
)
MODEL = FtTransformer(width=32, heads=4).fitted(SCHEMA)
KNOWS = Knowledge(model=MODEL, loss="cross-entropy", schema=SCHEMA, algorithm="fedsgd", lr=0.1, batch_size=4, epochs=1)


def _see(n, model=MODEL, twice=False):
    """One step's observation, with the batch behind it."""
    x, y = SCHEMA.draw(n, np.random.default_rng(5)), torch.arange(n) % 2
    if twice:
        x[1], y[1] = x[0], y[0]
    network = build(model, SCHEMA.shape, 2, 1)
    sent = {name: t.clone() for name, t in state(network).items()}
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
    received = {name: -0.1 * g for (name, _), g in zip(network.named_parameters(), gradients, strict=True)}
    return Observation((0,), (Exchange(1, sent, received, n),)), x, y


def _run(seen, knows=KNOWS):
    return ColumnTokens().run(seen, knows, np.random.default_rng(0), lambda share: None)


@pytest.mark.parametrize("blocks", [1, 2])
def test_every_record_of_a_batch_comes_back_with_its_label_and_is_verified(blocks):
    model = FtTransformer(width=32, heads=4, blocks=blocks).fitted(SCHEMA)
    seen, x, y = _see(4, model)
    claim = _run(seen, replace(KNOWS, model=model))
    apart = torch.cdist(x, claim.records)
    assert len(claim.records) == 4
    assert float(apart.amin(1).max()) < 1e-3
    assert torch.equal(claim.labels[apart.argmin(1)], y)
    assert bool(claim.checked.all())
    assert claim.mismatch < 1e-4


def test_a_record_that_is_there_twice_is_claimed_twice():
    seen, x, _ = _see(3, twice=True)
    claim = _run(seen)
    near = (torch.cdist(x, claim.records) < 1e-3).sum(1)
    assert near.tolist() == [2, 2, 1]


def test_behind_noise_nothing_is_claimed():
    seen, _, _ = _see(3)
    drawn = torch.Generator().manual_seed(0)
    received = {
        name: t + 0.05 * t.std() * torch.randn(t.shape, generator=drawn) for name, t in seen.last.received.items()
    }
    claim = _run(replace(seen, exchanges=(replace(seen.last, received=received),)))
    assert len(claim.records) == 0
    assert "more directions than there are records: noise" in claim.notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None}, "architecture or the schema is withheld"),
        ({"schema": None}, "architecture or the schema is withheld"),
        ({"lr": None}, "learning rate is withheld"),
        ({"algorithm": "fedavg", "epochs": 3}, "only a single one leaves their span"),
        ({"model": Mlp()}, "the network is no FT-Transformer"),
    ],
)
def test_what_is_missing_is_said(change, said):
    claim = _run(_see(1)[0], replace(KNOWS, **change))
    assert len(claim.records) == 0
    assert said in claim.notes[0]


def test_more_blocks_are_refused_in_words():
    deep = FtTransformer(width=32, heads=4, blocks=3).fitted(SCHEMA)
    claim = _run(_see(1, deep)[0], replace(KNOWS, model=deep))
    assert "only one or two blocks leave each column a term of its own, not 3" in claim.notes[0]


def test_a_category_without_a_record_is_in_no_claim():
    seen, x, _ = _see(2)
    claim = _run(seen)
    assert set(map(tuple, claim.records.round().tolist())) == set(map(tuple, x.round().tolist()))


def test_it_suits_what_makes_tokens_of_columns():
    assert ColumnTokens.suits(MODEL)
    assert not ColumnTokens.suits(Mlp())
