import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from fedinv.task.loss import loss
from server.inversion.matching.chain import Chain, directions
from server.inversion.matching.objective import Dense

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "leaky-relu": nn.LeakyReLU(),
    "gelu": nn.GELU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
}


def _flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def _centered(slope):
    return slope - slope.mean(-1, keepdim=True)


def _network(widths, activation="relu", seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    inner = [module for layer in layers[:-1] for module in (layer, ACTIVATIONS[activation])]
    return nn.Sequential(*inner, layers[-1])


def _dense(tensors):
    flat = list(tensors)
    return tuple(Dense(w.detach(), b.detach()) for w, b in zip(flat[::2], flat[1::2], strict=True))


def _loss(kind, answers, labels):
    return cross_entropy(answers, labels) if kind == "cross-entropy" else mse_loss(answers, labels)


@pytest.mark.parametrize("distance", ["cosine", "squared"])
@pytest.mark.parametrize(
    ("widths", "restarts", "n", "activation", "loss"),
    [
        ((7, 30, 20, 3), 3, 4, "relu", "cross-entropy"),
        ((200, 200, 200, 2), 2, 5, "relu", "cross-entropy"),
        ((4, 5, 2), 2, 1, "leaky-relu", "cross-entropy"),
        ((7, 30, 20, 3), 3, 4, "gelu", "cross-entropy"),
        ((7, 30, 20, 3), 2, 4, "tanh", "squared-error"),
        ((7, 9, 1), 2, 4, "sigmoid", "squared-error"),
        ((6, 3), 2, 4, "relu", "cross-entropy"),
    ],
)
def test_value_and_slopes_equal_autograds(widths, restarts, n, activation, loss, distance):
    generator = torch.Generator().manual_seed(1)
    network, outputs = _network(widths, activation), widths[-1]
    parameters = list(network.parameters())

    def gradient(x, y, create_graph=False):
        return torch.autograd.grad(_loss(loss, network(x), y), parameters, create_graph=create_graph)

    def draw(*shape):
        drawn = torch.randn(*shape, outputs, generator=generator)
        return drawn.softmax(-1) if loss == "cross-entropy" else drawn

    update = [-0.1 * g for g in gradient(torch.randn(n, widths[0], generator=generator), draw(n))]
    target = directions(_dense(update), n)
    assert any(t.right is not None for t in target) == (widths[0] == 200)  # both forms are tried
    size = float(_flat(update).norm()) / 0.1
    chain = Chain(_dense(parameters), target, distance=distance, size=size, loss=loss, activation=activation)

    inputs, labels = torch.randn(restarts, n, widths[0], generator=generator), draw(restarts, n)
    value, by_inputs, by_labels = chain(inputs, labels)
    for r in range(restarts):
        x, y = inputs[r].clone().requires_grad_(), labels[r].clone().requires_grad_()
        found, wanted = _flat(gradient(x, y, create_graph=True)), -_flat(update) / 0.1
        if distance == "cosine":
            expected = 1 - (found @ wanted) / (found.norm() * wanted.norm())
        else:
            expected = (found - wanted).square().sum() / size**2
        slopes = torch.autograd.grad(expected, (x, y))
        if loss == "cross-entropy":  # probabilities sum to 1: a constant in their slope says nothing
            slopes, by_labels[r] = (slopes[0], _centered(slopes[1])), _centered(by_labels[r])
        assert float(value[r]) == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-5)
        for got, slope in zip((by_inputs[r], by_labels[r]), slopes, strict=True):
            assert float((got - slope).abs().max()) < 2e-5 * float(slope.abs().max()) + 2e-6


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_class_weights_are_those_of_the_loss(distance):
    network, weights = _network((5, 16, 16, 3), "tanh"), torch.tensor([1.0, 0.3, 4.0])
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 5, generator=generator), torch.randn(4, 3, generator=generator).softmax(-1)
    gradients = torch.autograd.grad(loss(network(x), y, class_weights=weights), list(network.parameters()))
    target = directions(_dense([-0.05 * g for g in gradients]), 3)
    chain = Chain(
        _dense(network.parameters()),
        target,
        distance=distance,
        size=float(_flat(gradients).norm()),
        activation="tanh",
        class_weights=weights,
    )
    assert math.isclose(float(chain(x[None], y[None])[0]), 0, abs_tol=1e-6)
    assert float(replace(chain, class_weights=None)(x[None], y[None])[0]) > 1e-3
    # the slopes away from the truth, against finite differences
    x, y = x + 0.5 * torch.randn(x.shape, generator=generator), y.roll(1, 0)
    _, by_inputs, by_labels = chain(x[None], y[None])
    for _ in range(3):
        to_x, to_y = torch.randn(x.shape, generator=generator), torch.randn(y.shape, generator=generator)
        ahead, behind = (chain((x + s * to_x)[None], (y + s * to_y)[None])[0] for s in (3e-3, -3e-3))
        slope = (by_inputs[0] * to_x).sum() + (by_labels[0] * to_y).sum()
        torch.testing.assert_close(slope[None], (ahead - behind) / 6e-3, atol=3e-3, rtol=2e-2)


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_the_truth_has_no_misfit(distance):
    network = _network((5, 16, 16, 2))
    x, y = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1])
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
    target = directions(_dense([-0.05 * g for g in gradients]), 3)
    chain = Chain(_dense(network.parameters()), target, distance=distance, size=float(_flat(gradients).norm()))
    value, slope, _ = chain(x[None], one_hot(y)[None].float())
    assert math.isclose(float(value), 0, abs_tol=1e-6)
    assert float(slope.abs().max()) < 1e-4


def test_a_zero_update_has_no_direction():
    with pytest.raises(ValueError, match="zero"):
        directions((Dense(torch.zeros(2, 3), torch.zeros(2)),), 1)


def test_clipping_is_each_records_own():
    network = _network((5, 16, 16, 2), "gelu")
    generator = torch.Generator().manual_seed(0)
    parameters = list(network.parameters())
    y = torch.tensor([0, 1, 1, 0])

    def each_clipped(x, clip):
        losses = cross_entropy(network(x), y, reduction="none")
        rows = [_flat(torch.autograd.grad(loss, parameters, create_graph=True)) for loss in losses]
        return torch.stack([g * (clip / g.norm()).clamp(max=1) for g in rows])

    truth, x = torch.randn(2, 4, 5, generator=generator)
    clip = float(each_clipped(truth, 1e9).detach().norm(dim=1).median())
    clipped = each_clipped(truth, clip).detach()
    parts = clipped.mean(0).split([p.numel() for p in parameters])
    update = _dense([-part.reshape(p.shape) for p, part in zip(parameters, parts, strict=True)])
    target, hot = directions(update, 4), one_hot(y).float()
    chain = Chain(_dense(parameters), target, clip, activation="gelu")
    assert float(chain(truth[None], hot[None])[0]) == pytest.approx(0, abs=1e-6)
    assert float(Chain(_dense(parameters), target, activation="gelu")(truth[None], hot[None])[0]) > 0.001
    expected = clipped.square().sum(1) / clipped.sum(0).square().sum()
    assert torch.allclose(chain.influence(truth, hot), expected, atol=1e-5)

    value, slope, _ = chain(x[None], hot[None])
    x.requires_grad_()
    found, wanted = each_clipped(x, clip).sum(0), clipped.sum(0)
    autograd_value = 1 - (found @ wanted) / (found.norm() * wanted.norm())
    (autograd_slope,) = torch.autograd.grad(autograd_value, x)
    assert float(value) == pytest.approx(float(autograd_value.detach()), abs=1e-5)
    assert torch.allclose(slope[0], autograd_slope, atol=1e-5 * float(autograd_slope.abs().max()) + 1e-7)


def test_answers_are_the_networks():
    network = _network((4, 8, 3), "tanh")
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    chain = Chain(_dense(network.parameters()), (), activation="tanh")
    assert torch.allclose(chain.answers(x), network(x).softmax(-1), atol=1e-6)
