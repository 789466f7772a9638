import pytest
import torch

from server.inversion.matching.priors import group, squares, total_variation

IMAGES = torch.randn(3, 2, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(1, 4, 6), (2, 4, 3), (24, 1, 1)])
def test_total_variation_of_any_number_of_channels(shape):
    value, slope = total_variation(0.5, shape)(IMAGES)
    x = IMAGES.clone().requires_grad_()
    pixels = x.reshape(3, 2, *shape)
    parts = [pixels[..., 1:, :] - pixels[..., :-1, :], pixels[..., 1:] - pixels[..., :-1]]
    expected = 0.5 * sum(p.abs().flatten(1).mean(1) for p in parts if p.numel())
    if not torch.is_tensor(expected):
        expected = 0 * x.sum((1, 2))
    (expected_slope,) = torch.autograd.grad(expected.sum(), x)
    assert torch.allclose(value, expected.detach(), atol=1e-6)
    assert torch.allclose(slope, expected_slope, atol=1e-6)
    assert float(total_variation(0.5, shape)(torch.ones(1, 2, 24))[0]) == 0


def test_squares():
    x = IMAGES.clone().requires_grad_()
    expected = 0.3 * x.square().mean((1, 2))
    value, slope = squares(0.3)(IMAGES)
    assert torch.allclose(value, expected.detach())
    assert torch.allclose(slope, torch.autograd.grad(expected.sum(), x)[0])


def test_the_group_draws_restarts_together():
    value, slope = group(1.0)(IMAGES)
    closer, _ = group(1.0)(IMAGES - 0.1 * slope * IMAGES[0].numel())
    assert bool((closer < value).all())
    assert torch.allclose(slope.sum(0), torch.zeros(2, 24), atol=1e-6)
    alone, _ = group(1.0)(IMAGES[:1])
    assert float(alone) == 0
