"""Feature inversion: whole signals behind convolutions, verified, and nothing where the features are hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.attack import EXPLAINS, EXPLAINS_SIGNALS, Claim, Exchange, Knowledge, Observation
from fedinv.data.sources.heartbeats import Heartbeats
from fedinv.task.models import build, state
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.networks.signals import SignalConvnet
from server.attacks.feature_inversion import FeatureInversion
from server.inversion.recompute import bound_of, explains, mismatch, recompute_update

TABLE = Heartbeats(source="heartbeats", persons=4, beats=2, samples=64).load(3)
MODEL = SignalConvnet(channels=(16, 16), hidden=(24,))
KNOWS = Knowledge(
    model=MODEL, loss="cross-entropy", schema=TABLE.schema, algorithm="fedsgd", lr=0.1, batch_size=2, epochs=1
)
QUICK = FeatureInversion(iterations=60)


def _see(n, model=MODEL):
    """One step's observation, with the batch behind it."""
    x, y = TABLE.schema.encode(TABLE.columns)[:n], torch.from_numpy(TABLE.labels)[:n]
    network = build(model, TABLE.schema.shape, 3, 1)
    sent = {name: t.clone() for name, t in state(network).items()}
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
    received = {name: -0.1 * g for (name, _), g in zip(network.named_parameters(), gradients, strict=True)}
    return Observation((0,), (Exchange(1, sent, received, n),)), x, y


def _run(seen, knows=KNOWS):
    return QUICK.run(seen, knows, np.random.default_rng(0), lambda share: None)


def test_every_signal_of_a_batch_comes_back_with_its_label_and_is_verified():
    seen, x, y = _see(2)
    claim = _run(seen)
    apart = torch.cdist(x, claim.records)
    assert len(claim.records) == 2
    assert float((apart.amin(1) / x.norm(dim=1)).max()) < 1e-4
    assert torch.equal(claim.labels[apart.argmin(1)], y)
    assert bool(claim.verified.all())
    assert claim.mismatch < 1e-4


def test_behind_noise_nothing_is_claimed():
    seen, _, _ = _see(2)
    drawn = torch.Generator().manual_seed(0)
    received = {
        name: t + 0.05 * t.std() * torch.randn(t.shape, generator=drawn) for name, t in seen.last.received.items()
    }
    claim = _run(replace(seen, exchanges=(replace(seen.last, received=received),)))
    assert len(claim.records) == 0
    assert "no record could be verified" in claim.notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None}, "architecture is withheld"),
        ({"schema": None}, "schema is withheld"),
        ({"lr": None}, "learning rate is withheld"),
        ({"algorithm": "fedavg", "epochs": 3}, "only a single one leaves their span"),
    ],
)
def test_what_is_missing_is_said(change, said):
    claim = _run(_see(1)[0], replace(KNOWS, **change))
    assert len(claim.records) == 0
    assert said in claim.notes[0]


def test_fewer_features_than_samples_are_refused():
    narrow = SignalConvnet(channels=(2, 2), hidden=(24,))
    claim = _run(_see(1, narrow)[0], replace(KNOWS, model=narrow))
    assert "32 features do not determine the 64 numbers" in claim.notes[0]


def test_it_suits_networks_with_layers_before_the_dense_ones():
    assert FeatureInversion.suits(MODEL)
    assert not FeatureInversion.suits(Mlp())


def test_signals_that_are_all_a_little_wrong_are_not_verified():
    seen, x, y = _see(2)
    blurred = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    again = recompute_update(KNOWS, seen.last.sent, blurred, y, np.random.default_rng(0))
    left = mismatch(again, seen.last.received)
    assert EXPLAINS_SIGNALS < left < EXPLAINS
    assert not explains(left, KNOWS, 2)
    assert explains(left, replace(KNOWS, schema=None), 2)
    claim = Claim(blurred, torch.ones(2), y, left, bound=bound_of(KNOWS))
    assert not claim.verified.any()
    assert replace(claim, bound=EXPLAINS).verified.all()
