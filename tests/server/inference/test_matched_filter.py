"""Products of gradients that are never formed, and the likelihood ratio of a person's gradient in a noisy sum."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedinv.attack import Sample
from server.inference.matched_filter import Gradients, clipped_gradients, evidence, is_chain


def _network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))


def _people(count, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, 5, generator=generator)
    return Sample(drawn, torch.randint(0, 3, (count,), generator=generator))


def _rows(network, people):
    rows = []
    for x, y in zip(people.records, people.labels, strict=True):
        gradient = torch.autograd.grad(cross_entropy(network(x[None]), y[None]), list(network.parameters()))
        rows.append(torch.cat([g.flatten() for g in gradient]))
    return torch.stack(rows).double()


def test_products_are_those_of_clipped_gradients():
    network, people, others = _network(), _people(6, 1), _people(4, 2)
    assert is_chain(network)
    assert not is_chain(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    rows, more = _rows(network, people), _rows(network, others)
    clip = float(rows.norm(dim=1).median())
    cut = rows * (clip / rows.norm(dim=1, keepdim=True)).clamp_max(1)
    ours, theirs = clipped_gradients(network, people, clip), clipped_gradients(network, others, float("inf"))
    assert torch.allclose(ours.products(theirs), cut @ more.T, atol=1e-5)
    assert torch.allclose(ours.squares(), cut.square().sum(1), atol=1e-5)
    update = [torch.randn(p.shape, generator=torch.Generator().manual_seed(3)) for p in network.parameters()]
    flat = torch.cat([u.flatten() for u in update]).double()
    assert torch.allclose(ours.along(update), cut @ flat, atol=1e-4)


def test_the_ratio_is_that_of_the_gaussian_with_the_others_mean_and_covariance():
    network, people, others = _network(), _people(6, 1), _people(40, 2)
    rows, more = _rows(network, people), _rows(network, others)
    std, count = 0.3, 8.0
    generator = torch.Generator().manual_seed(4)
    total = rows[:3].sum(0) + std * torch.randn(rows.shape[1], generator=generator, dtype=torch.float64)
    sizes = [p.numel() for p in network.parameters()]
    parts = [t.reshape(p.shape).float() for t, p in zip(total.split(sizes), network.parameters(), strict=True)]
    found = evidence(*(clipped_gradients(network, some, float("inf")) for some in (people, others)), parts, count, std)
    mean = more.mean(0)
    apart = more - mean
    covariance = std**2 * torch.eye(len(total), dtype=torch.float64) + count / len(more) * apart.T @ apart
    inverse = torch.linalg.inv(covariance)
    own, rest = rows - mean, total - count * mean
    expected = own @ inverse @ rest - (own @ inverse * own).sum(1) / 2
    assert found.ratio.tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-3)
    assert isinstance(clipped_gradients(network, people, 1.0), Gradients)
