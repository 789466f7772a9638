from dataclasses import replace

import pytest
import torch

from fedinv.attack import Exchange, Knowledge
from server.inversion.exact.first_layer import factor, first_layer


def _exchange(rank, records, noise=0.0, h=60, d=20):
    generator = torch.Generator().manual_seed(0)
    update = torch.randn(h, rank, generator=generator) @ torch.randn(rank, d + 1, generator=generator)
    update += noise * torch.randn(h, d + 1, generator=generator)
    sent = {
        "0.weight": torch.randn(h, d, generator=generator),
        "0.bias": torch.randn(h, generator=generator),
        "2.weight": torch.randn(2, h, generator=generator),
        "2.bias": torch.zeros(2),
    }
    received = {
        "0.weight": update[:, :d],
        "0.bias": update[:, d],
        "2.weight": sent["2.weight"],
        "2.bias": sent["2.bias"],
    }
    return Exchange(1, sent, received, records)


def test_the_factors_multiply_to_the_update():
    layer = first_layer(_exchange(4, 9), Knowledge())
    factors = factor(layer, 9, 0.0, lossless=True)
    assert factors.left.shape == (60, 4) and factors.right.shape == (4, 21) and not layer.last
    assert torch.allclose(factors.left @ factors.right, layer.update, atol=1e-5)


@pytest.mark.parametrize("told", [True, False])
def test_noise_alone_has_rank_zero(told):
    layer = first_layer(_exchange(0, 9, noise=0.1), Knowledge())
    factors = factor(layer, 9, 0.1 if told else 0.0, lossless=True)
    assert factors.left.shape == (60, 0) and factors.noise == pytest.approx(0.1, rel=0.5)


def test_noise_is_measured_beyond_the_number_of_records():
    factors = factor(first_layer(_exchange(3, 5, noise=0.01), Knowledge()), 5, 0.0, lossless=True)
    assert factors.left.shape[1] == 3 and factors.noise == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize(("algorithm", "momentum"), [("fedsgd", 0.0), ("fedavg", 0.0), ("fedavg", 0.9)])
def test_what_weight_decay_did_is_taken_out(algorithm, momentum):
    last = _exchange(3, 6)
    knows = Knowledge(algorithm=algorithm, lr=0.1, batch_size=2, epochs=2, momentum=momentum, weight_decay=0.01)
    weights = {k: t.double() for k, t in last.sent.items()}
    velocity = {k: torch.zeros_like(t) for k, t in weights.items()}
    for _ in range(1 if algorithm == "fedsgd" else 6):
        velocity = {k: momentum * velocity[k] + 0.01 * weights[k] for k in weights}
        weights = {k: weights[k] - 0.1 * velocity[k] for k in weights}
    decayed = {k: last.received[k] + (weights[k] - last.sent[k]) for k in weights}
    layer = first_layer(replace(last, received=decayed), knows)
    assert torch.allclose(layer.update, first_layer(last, Knowledge()).update, atol=1e-6)


def test_what_cannot_be_read_is_named():
    last = _exchange(3, 6)
    with pytest.raises(ValueError, match="parameters that were sent"):
        first_layer(replace(last, received={}), Knowledge())
    with pytest.raises(ValueError, match="zero"):
        first_layer(replace(last, received={k: 0 * t for k, t in last.sent.items()}), Knowledge())
    bare = {"0.weight": torch.ones(4, 3), "1.weight": torch.ones(2, 4)}
    with pytest.raises(ValueError, match="bias"):
        first_layer(Exchange(1, bare, bare, 2), Knowledge())
