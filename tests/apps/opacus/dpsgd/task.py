"""The convolutional net on made-up images, trained by DP-SGD: clipped gradients and noise, by Opacus."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def load_data(partition_id: int, batch_size: int, images: int = 8):
    generator = torch.Generator().manual_seed(partition_id)
    x = torch.rand(images, 3, 32, 32, generator=generator) * 2 - 1
    y = torch.randint(0, 10, (images,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)


def train(net, loader, privacy_engine, optimizer, target_delta):
    criterion = nn.CrossEntropyLoss()
    net.train()
    for x, y in loader:
        if len(x):
            optimizer.zero_grad()
            criterion(net(x), y).backward()
            optimizer.step()
    return privacy_engine.get_epsilon(delta=target_delta)
