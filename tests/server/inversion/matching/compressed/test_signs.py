"""The objective for updates of signs: its slopes, what it reads off a message, and where it has no misfit."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from server.inversion.activations import bend, curve
from server.inversion.matching.compressed.signs import MOST, Signs, absent, read_signs
from server.inversion.matching.objective import Dense


def _network(widths, activation):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*(m for layer in layers[:-1] for m in (layer, activation)), layers[-1])


def _dense(tensors):
    flat = list(tensors)
    return tuple(Dense(w.detach(), b.detach()) for w, b in zip(flat[::2], flat[1::2], strict=True))


def _sent(network, loss, x, y):
    """The gradient's layers, and those of the update as the defense sends it: zeros go as positive."""
    gradients = torch.autograd.grad(loss(network(x), y), list(network.parameters()))
    sent = [torch.where(-g < 0, -1.0, 1.0) * g.abs().mean() for g in gradients]
    return _dense(gradients), _dense(sent)


def _everywhere(layers):
    return tuple(Dense(torch.ones_like(one.weight), torch.ones_like(one.bias)) for one in layers)


@pytest.mark.parametrize("activation", ["relu", "leaky-relu"])
def test_a_softened_corner_has_the_slopes_that_it_says(activation):
    units = torch.linspace(-3, 3, 25).reshape(1, 5, 5)
    scale = float(units.square().mean().sqrt())
    x = units.clone().requires_grad_()
    # the root mean square counts as constant
    leak = 0.01 * (activation == "leaky-relu")
    soft = leak * x + (1 - leak) * nn.functional.softplus(x, 5.0 / scale, threshold=1e9)
    (slope,) = torch.autograd.grad(soft.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    value, steep = curve(activation, units, 5.0)
    assert torch.allclose(value, soft.detach(), atol=1e-5)
    assert torch.allclose(steep, slope.detach(), atol=1e-5)
    assert torch.allclose(bend(activation, value, units, 5.0), second, atol=1e-5)
    assert torch.allclose(curve(activation, units, 1e5)[0], curve(activation, units)[0], atol=1e-4)


@pytest.mark.parametrize(
    ("widths", "activation", "loss"),
    [
        ((7, 30, 20, 3), "tanh", "cross-entropy"),
        ((7, 150, 3), "gelu", "cross-entropy"),
        ((7, 9, 1), "tanh", "squared-error"),
    ],
)
def test_slopes_equal_autograds(widths, activation, loss):
    network = _network(widths, {"tanh": nn.Tanh(), "gelu": nn.GELU()}[activation])
    generator = torch.Generator().manual_seed(1)
    outputs = widths[-1]

    def draw(*shape):
        drawn = torch.randn(*shape, outputs, generator=generator)
        return drawn.softmax(-1) if loss == "cross-entropy" else drawn

    measure = cross_entropy if loss == "cross-entropy" else mse_loss
    _, sent = _sent(network, measure, torch.randn(4, 7, generator=generator), draw(4))
    signs = read_signs(sent, _everywhere(sent))
    parameters = list(network.parameters())
    objective = Signs(_dense(parameters), (), loss=loss, activation=activation, signs=signs, temperature=0.4)
    inputs, labels = torch.randn(2, 4, 7, generator=generator), draw(2, 4)
    value, by_inputs, by_labels = objective(inputs, labels)
    for r in range(2):
        x, y = inputs[r].clone().requires_grad_(), labels[r].clone().requires_grad_()
        found = torch.autograd.grad(measure(network(x), y), parameters, create_graph=True)
        total = torch.zeros(())
        for i, g in enumerate(found):
            s = (signs[i // 2].weight, signs[i // 2].bias)[i % 2]
            worth = 1.0 if i < 2 else objective._behind
            if (i >= 2 and i % 2 == 0) or i == 3:  # rows beyond MOST take their turn
                down, across = (-(-size // MOST) for size in signs[i // 2].weight.shape)
                worth *= s.numel() / s[::down, ::across].numel() if i % 2 == 0 else down * across
                g, s = (g[::down, ::across], s[::down, ::across]) if i % 2 == 0 else (g[::down], s[::down])
            size = (g * s).abs().sum() / (s != 0).sum()
            total = total + worth * (0.4 * nn.functional.softplus(-s * g / (0.4 * size)) * (s != 0)).sum()
        slopes = torch.autograd.grad(total / signs[0].weight.numel(), (x, y))
        assert float(value[r]) == pytest.approx(float(total.detach()) / signs[0].weight.numel(), rel=1e-4)
        assert torch.allclose(by_inputs[r], slopes[0], atol=1e-6, rtol=1e-3)
        ours, theirs = by_labels[r], slopes[1]
        if loss == "cross-entropy":  # probabilities add up to 1: a constant in their slope says nothing
            ours, theirs = ours - ours.mean(-1, keepdim=True), theirs - theirs.mean(-1, keepdim=True)
        assert torch.allclose(ours, theirs, atol=1e-6, rtol=1e-3)


def test_what_no_record_has_is_read_off_the_message():
    network = _network((6, 60, 40, 2), nn.ReLU())
    with torch.no_grad():
        network[0].bias[3] = -100.0  # a unit that nothing reaches
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    x[:, 4] = 0
    gradient, sent = _sent(network, cross_entropy, x, torch.tensor([0, 1, 1]))
    signs = read_signs(sent, _everywhere(sent))
    assert absent(signs).tolist() == [False, False, False, False, True, False]
    for sign, true in zip(signs, gradient, strict=True):
        assert torch.equal(sign.weight * true.weight, true.weight.abs())
        # a zero counts for nothing, but where records cancel or units are reached by none of the rows that are left
        assert float((sign.weight[true.weight == 0] == 0).float().mean()) > 0.5
    assert not bool(signs[0].weight[3].any())
    assert not bool(signs[1].weight[:, 3].any())
    # a defense's masks are left out too
    none = tuple(Dense(0 * one.weight, 0 * one.bias) for one in sent)
    assert not any(bool(one.weight.any()) for one in read_signs(sent, none))


def test_the_search_goes_from_soft_and_warm_to_sharp_and_cold_over_all_rows():
    layers = (Dense(torch.zeros(300, 4), torch.zeros(300)), Dense(torch.zeros(300, 300), torch.zeros(300)))
    objective = Signs(layers, (), signs=tuple(replace(one, weight=one.weight + 1) for one in layers))
    first, last = objective.at(0.0, 0), objective.at(1.0, 900)
    assert first.temperature > last.temperature
    assert first.sharpness < last.sharpness
    seen = torch.zeros(300, 300)
    for step in range(9):
        rows, columns = objective.at(step / 9, step)._turn(1)
        seen[rows, columns] += 1
    assert bool((seen == 1).all())
