import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from server.inversion.matching.chain import Chain, directions
from server.inversion.matching.network import Network, Statistics, differentiable, normalizations
from server.inversion.matching.objective import Dense


def _flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def _convolutional(norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *([nn.BatchNorm2d(4)] if norm else []), nn.Sigmoid())
        return nn.Sequential(nn.Unflatten(1, (2, 6, 6)), block, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))


def _target(network, x, y):
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
    size = float(_flat(gradients).norm())
    names = [name for name, _ in network.named_parameters()]
    return {name: g / size for name, g in zip(names, gradients, strict=True)}, size


@pytest.mark.parametrize("distance", ["cosine", "squared"])
@pytest.mark.parametrize("norm", [False, True])
def test_value_and_slopes_together_equal_those_one_by_one(norm, distance):
    generator = torch.Generator().manual_seed(0)
    network = differentiable(_convolutional(norm))
    target, size = _target(network, torch.randn(3, 72, generator=generator), torch.tensor([0, 1, 2]))
    objective = Network(network, 72, target, distance=distance, size=size)
    inputs = torch.randn(2, 3, 72, generator=generator)
    labels = torch.randn(2, 3, 3, generator=generator).softmax(-1)
    together = objective(inputs, labels)
    alone = [
        torch.cat(parts)
        for parts in zip(*(objective(x[None], y[None]) for x, y in zip(inputs, labels, strict=True)), strict=True)
    ]
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b, atol=1e-5 * float(b.abs().max()) + 1e-7)
    step = 1e-2 * torch.randn(inputs.shape, generator=generator)
    ahead, behind = (objective(inputs + s * step, labels)[0] for s in (1, -1))
    assert torch.allclose((ahead - behind) / 2, (together[1] * step).sum((1, 2)), rtol=0.02, atol=2e-6)


@pytest.mark.parametrize("clip", [float("inf"), 0.5])
def test_it_agrees_with_the_closed_form(clip):
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 3))
    target, size = _target(network, torch.randn(4, 5, generator=generator), torch.tensor([0, 1, 2, 0]))
    flat = list(network.state_dict().values())
    update = list(target.values())
    dense = [tuple(Dense(w, b) for w, b in zip(t[::2], t[1::2], strict=True)) for t in (flat, [-u for u in update])]
    chain = Chain(dense[0], directions(dense[1], 4), clip, "squared", size, activation="gelu")
    any_network = Network(differentiable(network), 5, target, clip, "squared", size)
    inputs = torch.randn(2, 4, 5, generator=generator)
    labels = one_hot(torch.randint(3, (2, 4), generator=generator), 3).float()
    for a, b in list(zip(chain(inputs, labels), any_network(inputs, labels), strict=True))[:2]:
        assert torch.allclose(a, b, atol=1e-4 * float(b.abs().max()) + 1e-6)
    assert torch.allclose(chain.influence(inputs[0], labels[0]), any_network.influence(inputs[0], labels[0]), atol=1e-5)
    assert torch.allclose(chain.answers(inputs[0]), any_network.answers(inputs[0]), atol=1e-6)


def test_the_truth_has_no_misfit_and_its_own_batch_statistics():
    network = _convolutional(norm=True)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    x, y = torch.randn(4, 72, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    target, _ = _target(network, x, y)
    ((stem, momentum),) = normalizations(network)
    after = network.state_dict()
    mean, variance = (
        before[f"{stem}.{k}"] + (after[f"{stem}.{k}"] - before[f"{stem}.{k}"]) / momentum
        for k in ("running_mean", "running_var")
    )
    objective = Network(differentiable(network), 72, target, normal=1.0, statistics=(Statistics(mean, variance),))
    hot = one_hot(y).float()
    assert float(objective(x[None], hot[None])[0]) == pytest.approx(0, abs=1e-4)
    wrong = Network(network, 72, target, normal=1.0, statistics=(Statistics(mean + 1, variance),))
    assert float(wrong(x[None], hot[None])[0]) == pytest.approx(2, abs=1e-3)  # the norm of 4 ones


def test_costs_grow_with_records():
    network = differentiable(_convolutional())
    target, _ = _target(network, torch.randn(1, 72), torch.tensor([0]))
    objective = Network(network, 72, target)
    assert 3 < objective.flops(4) / objective.flops(1) < 5
    assert objective.held(4) > objective.held(1) > objective.parameters


def test_layers_of_chance_are_refused():
    with pytest.raises(ValueError, match="Dropout"):
        differentiable(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
