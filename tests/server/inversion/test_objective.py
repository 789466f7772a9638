import math

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from fedinv.models import Mlp, build
from server.inversion.objective import cosine, dense_layers, directions, influence


def _flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


@pytest.mark.parametrize(
    ("hidden", "restarts", "n", "width", "classes"),
    [((30, 20), 3, 4, 7, 3), ((200, 200), 2, 5, 200, 2), ((5,), 2, 1, 4, 2)],
)
def test_value_and_slope_equal_autograds(hidden, restarts, n, width, classes):
    generator = torch.Generator().manual_seed(1)
    network = build(Mlp(hidden=hidden), width, classes, 0)
    parameters = list(network.parameters())

    def gradient(x, y, create_graph=False):
        return torch.autograd.grad(cross_entropy(network(x), y), parameters, create_graph=create_graph)

    truth = torch.randn(n, width, generator=generator)
    update = [-0.1 * g for g in gradient(truth, torch.arange(n) % classes)]
    layers = dense_layers({k: p.detach() for k, p in network.named_parameters()})
    named = dict(zip(dict(network.named_parameters()), update, strict=True))
    target = directions(dense_layers(named), torch.Generator().manual_seed(0))
    assert any(t.right is not None for t in target) == (hidden == (200, 200))  # both forms are tried

    inputs = torch.randn(restarts, n, width, generator=generator)
    labels = torch.randint(classes, (restarts, n), generator=generator)
    value, slope = cosine(inputs, one_hot(labels, classes).float(), layers, target)
    for r in range(restarts):
        x = inputs[r].clone().requires_grad_()
        found, wanted = _flat(gradient(x, labels[r], create_graph=True)), -_flat(update)
        expected = (found @ wanted) / (found.norm() * wanted.norm())
        (expected_slope,) = torch.autograd.grad(expected, x)
        assert float(value[r]) == pytest.approx(float(expected.detach()), abs=1e-5)
        assert float((slope[r] - expected_slope).abs().max()) < 1e-5 * float(expected_slope.abs().max()) + 1e-7


def test_the_truth_has_cosine_one():
    network = build(Mlp(hidden=(16, 16)), 5, 2, 0)
    x, y = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1])
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
    names = list(dict(network.named_parameters()))
    update = dense_layers({n: -0.05 * g for n, g in zip(names, gradients, strict=True)})
    layers = dense_layers({k: p.detach() for k, p in network.named_parameters()})
    value, slope = cosine(x[None], one_hot(y)[None].float(), layers, directions(update, torch.Generator()))
    assert math.isclose(float(value), 1, abs_tol=1e-6)
    assert float(slope.abs().max()) < 1e-4


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"0.weight": torch.zeros(2, 3)},
        {"0.weight": torch.zeros(2, 3, 3, 3), "0.bias": torch.zeros(2)},
        {"0.weight": torch.zeros(2, 3), "0.bias": torch.zeros(2), "scale": torch.zeros(1)},
        {
            "0.weight": torch.zeros(2, 3),
            "0.bias": torch.zeros(2),
            "2.weight": torch.zeros(2, 3),
            "2.bias": torch.zeros(2),
        },
    ],
)
def test_other_networks_are_refused(tensors):
    with pytest.raises(ValueError, match="no chain of linear layers"):
        dense_layers(tensors)


def test_a_zero_update_has_no_direction():
    with pytest.raises(ValueError, match="zero"):
        directions(dense_layers({"0.weight": torch.zeros(2, 3), "0.bias": torch.zeros(2)}), torch.Generator())


def test_clipping_is_each_records_own():
    network = build(Mlp(hidden=(16, 16)), 5, 2, 0)
    generator = torch.Generator().manual_seed(0)
    named = dict(network.named_parameters())
    y = torch.tensor([0, 1, 1, 0])

    def each_clipped(x, clip):
        losses = cross_entropy(network(x), y, reduction="none")
        rows = [_flat(torch.autograd.grad(loss, named.values(), create_graph=True)) for loss in losses]
        return torch.stack([g * (clip / g.norm()).clamp(max=1) for g in rows])

    truth, x = torch.randn(2, 4, 5, generator=generator)
    clip = float(each_clipped(truth, 1e9).detach().norm(dim=1).median())
    clipped = each_clipped(truth, clip).detach()
    parts = clipped.mean(0).split([p.numel() for p in named.values()])
    update = {n: -part.reshape(p.shape) for (n, p), part in zip(named.items(), parts, strict=True)}
    layers = dense_layers({n: p.detach() for n, p in named.items()})
    target = directions(dense_layers(update), torch.Generator())
    hot = one_hot(y).float()
    assert float(cosine(truth[None], hot[None], layers, target, clip)[0]) == pytest.approx(1, abs=1e-6)
    assert float(cosine(truth[None], hot[None], layers, target)[0]) < 0.999
    expected = clipped.square().sum(1) / clipped.sum(0).square().sum()
    assert torch.allclose(influence(truth, hot, layers, clip), expected, atol=1e-5)

    value, slope = cosine(x[None], hot[None], layers, target, clip)
    x.requires_grad_()
    found, wanted = each_clipped(x, clip).sum(0), clipped.sum(0)
    autograd_value = (found @ wanted) / (found.norm() * wanted.norm())
    (autograd_slope,) = torch.autograd.grad(autograd_value, x)
    assert float(value) == pytest.approx(float(autograd_value.detach()), abs=1e-5)
    assert torch.allclose(slope[0], autograd_slope, atol=1e-5 * float(autograd_slope.abs().max()) + 1e-7)
