"""A network of the judge's own that says which class an image is of."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedinv.attack import Sample
from fedinv.task.models import build
from fedinv.task.networks.convolutional import Convnet
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema

STEPS = 200
BATCH = 32
SMALLEST = 8


@dataclass(frozen=True)
class Recognizer:
    """A trained network, and how good it is."""

    network: nn.Sequential
    right: int
    """Held-out images whose class it tells."""
    asked: int

    def classes(self, inputs: Tensor) -> NDArray[np.int64]:
        """(n,) classes of encoded images (n, width)."""
        with torch.no_grad():
            return np.asarray(self.network(inputs).argmax(1).numpy(), np.int64)


def recognizer(schema: Schema, training: Sample, held_out: Sample, seed: int) -> Recognizer:
    """Train on images that are shifted by up to two pixels, rescaled in contrast and noised. Deterministic.

    A convolutional network for images of 8 x 8 and more, whatever the federation trains; its weights are drawn by
    `seed`, which must not be the federation's.
    """
    small = min(schema.shape[1:]) < SMALLEST
    model = Mlp(hidden=(128,)) if small else Convnet(channels=(16, 32, 64))
    network = build(model, schema.shape, schema.outputs, seed)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = torch.randint(len(training), (min(BATCH, len(training)),), generator=generator)
        pictures = _varied(training.records[rows].reshape(-1, *schema.shape), generator)
        optimizer.zero_grad()
        cross_entropy(network(pictures.flatten(1)), training.labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        right = int((network(held_out.records).argmax(1) == held_out.labels).sum()) if len(held_out) else 0
    return Recognizer(network, right, len(held_out))


def _varied(pictures: Tensor, generator: torch.Generator) -> Tensor:
    down, across = (int(torch.randint(-2, 3, (), generator=generator)) for _ in range(2))
    contrast = 1 + 0.3 * (torch.rand(len(pictures), 1, 1, 1, generator=generator) - 0.5)
    light = 0.2 * torch.randn(len(pictures), 1, 1, 1, generator=generator)
    noise = 0.2 * torch.randn(pictures.shape, generator=generator)
    return pictures.roll((down, across), (2, 3)) * contrast + light + noise
