import pytest
import torch
from torch import nn

from fedinv.task.foreign.affine import undo


class Scaled(nn.Module):
    """Divides bytes by 255 and standardizes them, as apps do inside of the network."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.2, 0.1, 0.7, 0.3]))
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc((x / 255 - self.mean) / 0.25)


def normed():
    network = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))
    with torch.no_grad():
        network[0].running_mean.copy_(torch.linspace(-1, 1, 5))
        network[0].running_var.copy_(torch.linspace(0.5, 2, 5))
        network[0].weight.copy_(torch.linspace(1, 2, 5))
    return network


def mixing():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3))


@pytest.mark.parametrize(("network", "layer"), [(Scaled(), "fc"), (normed(), "1"), (mixing(), "1")])
def test_records_come_back_in_their_own_units(network, layer):
    records = 255 * torch.rand(7, 5)
    kept = []
    network.eval().get_submodule(layer).register_forward_pre_hook(lambda _, given: kept.append(given[0].detach()))
    network(records)
    found = undo(network, {}, layer, torch.rand(2, 5))
    assert float((found.records(kept[0]) - records).abs().max()) < 1e-2


def test_images_are_undone_as_rows_of_pixels():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 3)).eval()
    found = undo(network, {}, "2", torch.rand(2, 2, 3, 3))
    image = torch.rand(1, 2, 3, 3)
    assert torch.allclose(found.records(network[1](network[0](image))), image.flatten(1), atol=1e-5)


def test_a_map_that_holds_in_a_range_only_gives_no_records_outside():
    network = nn.Sequential(nn.Hardtanh(-10, 10), nn.Linear(5, 3))
    found = undo(network, {}, "1", torch.rand(2, 5))
    assert found.records(torch.full((1, 5), 9.0)) is not None
    assert found.records(torch.full((1, 5), 11.0)) is None


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(5, 4), nn.Identity(), nn.Linear(4, 3)),
    ],
)
def test_what_is_not_affine_or_loses_a_part_is_not_undone(network):
    assert undo(network, {}, "2", torch.randn(4, 5)) is None
