import numpy as np
import torch

from fedinv.attack import Sample
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from server.inference.whitening import Noise, gradients, seen_gradient


def test_products_are_those_of_the_inverse_covariance():
    rng = torch.Generator().manual_seed(0)
    others, rest = torch.randn(12, 40, generator=rng), torch.randn(40, generator=rng)
    noise = Noise.of(others, rest)
    centered = (others - others.mean(0)).double()
    covariance = centered.T @ centered / len(others) + noise.white * torch.eye(40, dtype=torch.float64)
    left, right = torch.randn(2, 5, 40, generator=rng, dtype=torch.float64)
    dense = (left @ torch.linalg.inv(covariance) * right).sum(1)
    assert torch.allclose(noise.products(left.float(), right.float()).double(), dense, rtol=1e-3, atol=1e-3)
    assert noise.spans.shape == (11, 40)  # centered: one direction less


def test_a_batchs_gradient_is_the_mean_of_its_peoples():
    network = build(Mlp(hidden=(8,)), (5,), 2, seed=1)
    rng = np.random.default_rng(1)
    people = Sample(torch.from_numpy(rng.standard_normal((6, 5))).float(), torch.from_numpy(rng.integers(0, 2, 6)))
    loss = torch.nn.functional.cross_entropy(network(people.records), people.labels)
    update = {
        name: -0.1 * g
        for (name, _), g in zip(
            network.named_parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True
        )
    }
    each = gradients(network, people)
    assert each.shape == (6, 5 * 8 + 8)
    assert torch.allclose(seen_gradient(network, update, 0.1, each), each.mean(0), atol=1e-6)
    unscaled = seen_gradient(network, update, None, each)
    assert torch.allclose(unscaled / unscaled.norm(), each.mean(0) / each.mean(0).norm(), atol=1e-5)
