import pytest
from torch import nn
from torch.nn import functional


class Pictures(nn.Module):
    """Two convolutions and three linear layers, whose activations are functions, not modules."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(functional.relu(self.conv2(self.pool(functional.relu(self.conv1(x))))))
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x.flatten(1))))))


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.read = nn.Embedding(50, 8), nn.LSTM(8, 12, batch_first=True)
        self.out, self.spare = nn.Linear(12, 2), nn.Linear(3, 3)

    def forward(self, x):
        return {"logits": self.out(self.read(self.words(x))[0][:, -1])}


@pytest.fixture
def pictures():
    return Pictures


@pytest.fixture
def text():
    return Text
