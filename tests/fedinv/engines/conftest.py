import pytest

OWN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(63, 128), nn.Linear(128, 32), nn.Linear(32, 2)

    def forward(self, x):
        return self.out(torch.relu(self.second(torch.relu(self.first(x)))))
"""


@pytest.fixture(scope="session")
def own_network() -> str:
    """A module of the user's own with the network Net, which each process of an engine imports for itself."""
    return OWN
