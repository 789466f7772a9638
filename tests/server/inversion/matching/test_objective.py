import pytest
import torch

from server.inversion.matching.objective import dense_layers


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
