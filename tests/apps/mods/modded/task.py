"""A small net with batch normalization, whose integer counter travels too, on made-up rows."""

import torch
from torch import nn


def network():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def load_data(partition_id: int):
    generator = torch.Generator().manual_seed(partition_id)
    x = torch.randn(12, 6, generator=generator)
    return x, torch.randint(0, 3, (12,), generator=generator)
