"""Income from fourteen columns: made-up people of one client, standardized with the client's own mean and deviation."""

from collections import OrderedDict

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class IncomeClassifier(nn.Module):
    def __init__(self, inputs: int = 14) -> None:
        super().__init__()
        self.layer1 = nn.Linear(inputs, 128)
        self.layer2 = nn.Linear(128, 64)
        self.output = nn.Linear(64, 1)
        self.relu = nn.ReLU()
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        x = self.relu(self.layer1(x))
        x = self.relu(self.layer2(x))
        return self.sigmoid(self.output(x))


def load_data(partition_id: int, rows: int):
    generator = torch.Generator().manual_seed(partition_id)
    x = torch.randn(rows, 14, generator=generator)
    x[:, 8:] = (x[:, 8:] * 3).round()
    y = (x[:, 0] + x[:, 9] / 3 + 0.3 * torch.randn(rows, generator=generator) > 0).float()[:, None]
    x = (x - x.mean(0)) / x.std(0)
    split = int(0.8 * rows)
    train, test = TensorDataset(x[:split], y[:split]), TensorDataset(x[split:], y[split:])
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(test, batch_size=32)


def train(model, loader, num_epochs=1):
    criterion = nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    model.train()
    for _ in range(num_epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()


def evaluate(model, loader):
    model.eval()
    criterion = nn.BCELoss()
    loss, right, total = 0.0, 0, 0
    with torch.no_grad():
        for x, y in loader:
            said = model(x)
            loss += criterion(said, y).item()
            right += int(((said > 0.5).float() == y).sum())
            total += len(y)
    return loss / len(loader), right / total


def get_weights(model):
    return OrderedDict((name, value.detach().clone()) for name, value in model.state_dict().items())
