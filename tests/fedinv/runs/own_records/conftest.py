"""A convolutional network of somebody's, a recording of one step of it, and the records behind it."""

import numpy as np
import pytest
import torch
from torch import nn

import fedinv

CODE = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.first, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 64), nn.Linear(64, 3)

    def forward(self, x):
        return self.out(F.relu(self.first(F.relu(self.conv(x)).flatten(1))))

def mine():
    return torch.ones(2, 1, 8, 8), torch.zeros(2)

def of_updates():
    return torch.ones(2, 1, 8, 8), torch.zeros(2), [0, 1]

def text():
    return "no tensor"

def broken():
    raise ValueError("secret 4711")
"""
RECORDS = 16


class Recorded:
    """A recording and the truth of it."""

    def __init__(self, project, network, x, y, others):
        self.project, self.network, self.x, self.y, self.others = project, network, x, y, others
        self.folder = project / "rec"

    def probe(self, **changed):
        given = {"records": self.x, "others": self.others, "project": self.project, "network": "someones.task:Net"}
        return fedinv.probe(self.folder, **(given | changed))


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """One step of SGD with momentum on 16 made-up images, and 1000 others."""
    project = tmp_path_factory.mktemp("someones")
    (project / "someones").mkdir()
    (project / "someones" / "task.py").write_text(CODE)
    space = {}
    exec(CODE, space)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = space["Net"]()
    images = torch.randn(1000 + RECORDS, 1, 8, 8, generator=generator)
    x, y = images[:RECORDS], torch.randint(0, 3, (RECORDS,), generator=generator)
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    back = step(network, x, y)
    write(project, "rec", sent, [back])
    return Recorded(project, network, x, y, images[RECORDS:])


def step(network, x, y, noise=0.0, decay=0.0):
    """The weights after one step of a copy, as SGD leaves them, with noise on the gradient or weight decay."""
    after = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.zero_grad()
    nn.functional.cross_entropy(network(x), y).backward()
    generator = torch.Generator().manual_seed(1)
    for name, weight in network.named_parameters():
        after[name] -= 0.1 * (weight.grad + noise * torch.randn(weight.shape, generator=generator))
        after[name] -= 0.1 * decay * weight.detach()
    return after


def write(project, name, sent, returned):
    """A recording of one round with these arrays."""
    np.savez(project / f"{name}-sent.npz", **{one: tensor.numpy() for one, tensor in sent.items()})
    files = []
    for place, arrays in enumerate(returned):
        files.append(project / f"{name}-back-{place}.npz")
        np.savez(files[-1], **{one: tensor.numpy() for one, tensor in arrays.items()})
    fedinv.import_files(project / f"{name}-sent.npz", files, out=project / name, records=1)
    return project / name
