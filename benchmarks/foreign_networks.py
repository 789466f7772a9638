"""Networks of Flower's example apps, written after them."""

import torch
from torch import nn
from torch.nn import functional


class Tabular(nn.Module):
    """The network of Flower's example fl-tabular: 14 inputs, one logit behind a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.output = nn.Linear(14, 128), nn.Linear(128, 64), nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Chances (n, 1) of records (n, 14)."""
        return torch.sigmoid(self.output(torch.relu(self.layer2(torch.relu(self.layer1(x))))))


class Images(nn.Module):
    """The network of Flower's quickstart-pytorch: two convolutions, three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, 10) of images (n, 3, 32, 32)."""
        x = self.pool(functional.relu(self.conv2(self.pool(functional.relu(self.conv1(x))))))
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x.flatten(1))))))  # type: ignore[no-any-return]
