import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv import roles
from fedinv.attack import Knowledge
from fedinv.federation.training import Job, Training
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers import Adam, AdamW, RmsProp, Sgd
from fedinv.task.optimizers.schedules import Cosine
from server.inversion.recompute import explains, mismatch, recompute_update

MODEL = Mlp(hidden=(12, 8))
KNOWS = Knowledge(model=MODEL, algorithm="fedsgd", lr=0.1, batch_size=6, epochs=1)


def _start(n=6):
    generator = torch.Generator().manual_seed(1)
    network = build(MODEL, (5,), 3, seed=0)
    sent = {k: p.detach().clone() for k, p in network.named_parameters()}
    return network, sent, torch.randn(n, 5, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def _again(knows, sent, x, y, **more):
    return recompute_update(knows, sent, x, y, np.random.default_rng(0), **more)


def test_one_step_is_minus_the_rate_times_the_gradient():
    network, sent, x, y = _start()
    before = {k: t.clone() for k, t in sent.items()}
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
    update = _again(KNOWS, sent, x, y)
    expected = {k: -0.1 * g for k, g in zip(sent, gradients, strict=True)}
    assert mismatch(update, expected) < 1e-6
    assert all(before[k].equal(sent[k]) for k in sent) and not any(t.requires_grad for t in update.values())


def test_part_of_a_batch_weighs_what_it_did_in_the_whole():
    _, sent, x, y = _start()
    whole = _again(KNOWS, sent, x, y)
    parts = [_again(KNOWS, sent, x[s], y[s], count=6) for s in (slice(0, 2), slice(2, 6))]
    assert mismatch({k: parts[0][k] + parts[1][k] for k in whole}, whole) < 1e-6


def test_local_epochs_follow_torch_sgd_when_each_is_one_batch():
    network, sent, x, y = _start()
    knows = KNOWS.__class__(
        model=MODEL, algorithm="fedavg", lr=0.1, batch_size=6, epochs=4, momentum=0.9, weight_decay=0.01
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(network(x), y))
        optimizer.step()
    expected = {k: p.detach() - sent[k] for k, p in network.named_parameters()}
    assert mismatch(_again(knows, sent, x, y), expected) < 1e-5


@pytest.mark.parametrize("optimizer", [Sgd(nesterov=True), Adam(amsgrad=True), AdamW(betas=(0.5, 0.9)), RmsProp()])
def test_any_optimizer_is_that_of_the_client(optimizer):
    # what the attacker trains again is what the client's own code sends, to the last setting
    network, sent, x, y = _start()
    how = {
        "momentum": 0.9 if optimizer.takes_momentum else 0.0,
        "weight_decay": 0.1,
        "optimizer": optimizer,
        "proximal": 0.3,
        "schedule": Cosine(),
        "class_weights": (1.0, 2.0, 0.5),
    }
    training = Training("fedavg", 4, 6, 0.01, **how)
    whole = tuple(np.arange(6) for _ in range(4))
    client = roles.load("clients", "training.plain_training").plain_training
    received = client(Job(network, x, y, whole, training, np.random.default_rng(0)))
    knows = Knowledge(MODEL, algorithm="fedavg", lr=0.01, batch_size=6, epochs=4, **how)
    assert mismatch(_again(knows, sent, x, y), received) < 1e-4
    for key, other in (("optimizer", Sgd()), ("proximal", 0.0), ("schedule", None), ("class_weights", None)):
        if how[key] != other:
            wrong = replace(knows, **{key: other})
            assert mismatch(_again(wrong, sent, x, y), received) > 1e-3, key


def test_missing_knowledge_is_named():
    _, sent, x, y = _start()
    with pytest.raises(ValueError, match="architecture, lr, algorithm"):
        _again(Knowledge(), sent, x, y)
    with pytest.raises(ValueError, match="batch-size"):
        _again(Knowledge(model=MODEL, algorithm="fedavg", lr=0.1), sent, x, y)
    with pytest.raises(ValueError, match="not of the architecture"):
        _again(Knowledge(model=Mlp(hidden=(3,)), algorithm="fedsgd", lr=0.1), sent, x, y)
    with pytest.raises(ValueError, match="0 records"):
        _again(KNOWS, sent, x[:0], y[:0])


def test_mismatch_is_relative_and_defined_for_zero():
    one, zero = {"w": torch.ones(4)}, {"w": torch.zeros(4)}
    assert mismatch(one, one) == 0 and mismatch(zero, one) == 1 and mismatch({"w": 3 * torch.ones(4)}, one) == 2
    assert mismatch(zero, zero) == 0 and mismatch(one, zero) == math.inf


def test_floating_point_labels_are_targets_of_the_squared_error():
    network = build(MODEL, (5,), 1, seed=0)
    sent = {k: p.detach().clone() for k, p in network.named_parameters()}
    x, y = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.linspace(-1, 2, 6)
    gradients = torch.autograd.grad((network(x)[:, 0] - y).square().mean(), list(network.parameters()))
    expected = {k: -0.1 * g for k, g in zip(sent, gradients, strict=True)}
    assert mismatch(_again(KNOWS, sent, x, y), expected) < 1e-6


def test_a_claim_must_explain_all_but_known_noise_and_the_order_of_batches():
    step, steps = Knowledge(algorithm="fedsgd"), Knowledge(algorithm="fedavg", epochs=5, batch_size=8)
    assert explains(0.05, step, 16) and not explains(0.3, step, 16)
    assert explains(0.3, steps, 16) and not explains(0.5, steps, 16)
    assert not explains(None, step, 16)
    # noise of half the update's length is a quarter of its square: the truth leaves 0.5, drawn records far more
    assert explains(0.5, step, 16, noise=0.25) and not explains(0.6, step, 16, noise=0.25)
    assert not explains(0.9, step, 16, noise=0.81)
