"""Small conditional generators: networks that turn noise and a class into a valid record of the schema."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot, softplus

from fedinv.attack import Progress, Sample
from fedinv.task.schema import Schema
from fedinv.task.seeding import seeded

from ..inversion import clock
from ..inversion.matching.relaxation import Relaxation
from .representatives import average

NOISE = 16
"""Dimension of the noise from which a record is generated."""
WIDTH = 128
"""Units of each hidden layer."""
TEMPERATURE = 0.3
"""Temperature of the Gumbel softmax over a one-hot group (Jang et al. 2017): low, so that samples are nearly one-hot.
"""


@dataclass(frozen=True)
class Generator:
    """A residual network of noise and class, as CTGAN's (Xu et al. 2019, section 4.4) without its normalization."""

    first: nn.Linear
    second: nn.Linear
    last: nn.Linear
    relaxation: Relaxation
    """Map from the network's outputs to valid records."""
    classes: int
    """Number of classes that a record can be generated for."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trainable parameters."""
        return [p for layer in (self.first, self.second, self.last) for p in layer.parameters()]

    def __call__(self, noise: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Records (n, width) from noise (n, NOISE) and classes (n,).

        With a random generator categories are sampled by the Gumbel softmax, without one they are probabilities.
        """
        given = torch.cat([noise, one_hot(labels, self.classes).float()], 1)
        hidden = self.first(given).relu()
        hidden = hidden + self.second(hidden).relu()
        free = self.last(hidden)
        if generator is not None and self.relaxation.form == "relaxed":
            drawn = torch.rand(free.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
            hot = self.relaxation.groups.any(1)
            free = torch.where(hot, (free - (-drawn.log()).log()) / TEMPERATURE, free)
        low, span = self.relaxation.low, self.relaxation.span
        return self.relaxation.inputs(free) if self.relaxation.form == "relaxed" else low + span * free.sigmoid()


def generator_of(relaxation: Relaxation, classes: int, seed: int) -> Generator:
    """A newly initialized generator; torch's global random state is not changed."""
    with seeded(seed):
        given = NOISE + classes
        layers = (nn.Linear(given, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, relaxation.width))
    return Generator(*layers, relaxation, classes)


@dataclass(frozen=True)
class Duration:
    """How long a generator is trained."""

    steps: int
    """Most steps of the optimizer."""
    seconds: float
    """Seconds of computing after which training stops."""


@dataclass(frozen=True)
class Guides:
    """Models and data against which a generator is trained."""

    discriminators: Sequence[nn.Module]
    """The models of successive rounds, at least one."""
    schema: Schema
    """The schema whose published means and variances a batch should have."""
    auxiliary: Sample | None
    """Real records, for a discriminator of real and generated ones; None: there is no such discriminator."""


def train_by_model(
    made: Generator, guides: Guides, duration: Duration, generator: torch.Generator, progress: Progress
) -> int:
    """Train a generator against the models of successive rounds; returns the number of steps taken.

    Each model is the discriminator for an equal part of the steps. The loss adds up the class's loss under it, the
    distance of a batch's means and variances from the published ones, and, where there are auxiliary records, that of a
    discriminator of real and generated records (Goodfellow et al. 2014, the non-saturating loss).
    """
    discriminators, auxiliary = guides.discriminators, guides.auxiliary
    optimizer = torch.optim.Adam(made.parameters, lr=2e-3, betas=(0.5, 0.9))
    width, deadline, taken = made.relaxation.width, clock.seconds() + duration.seconds, 0
    mean = average(guides.schema)
    hot = made.relaxation.groups.any(1)
    spread = torch.where(hot, (mean * (1 - mean)).clamp_min(0), torch.ones(width))
    critic, critics = _critic(width, made.classes, generator), None
    if auxiliary is not None:
        critics = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    each = max(1, duration.steps // len(discriminators))
    for model in discriminators:
        for _ in range(each):
            labels = torch.randint(made.classes, (64,), generator=generator)
            records = made(torch.randn(64, NOISE, generator=generator), labels, generator)
            if auxiliary is not None and critics is not None:
                rows = torch.randint(len(auxiliary), (64,), generator=generator)
                real = critic(_with(auxiliary.records[rows], auxiliary.labels[rows], made.classes))
                fake = critic(_with(records.detach(), labels, made.classes))
                critics.zero_grad()
                torch.autograd.backward((softplus(-real) + softplus(fake)).mean())
                critics.step()
            off = cross_entropy(model(records), labels)
            off = off + (records.mean(0) - mean).square().sum() + 0.3 * (records.var(0) - spread).square().sum()
            if auxiliary is not None:
                told = critic(_with(records, labels, made.classes))
                off = off + binary_cross_entropy_with_logits(told, torch.ones_like(told))
            optimizer.zero_grad()
            torch.autograd.backward(off)
            optimizer.step()
            taken += 1
            if taken % 20 == 0:
                progress(taken / (each * len(discriminators)))
                if clock.seconds() > deadline:
                    return taken
    return taken


def train_on_records(
    made: Generator, real: Sample, duration: Duration, generator: torch.Generator, progress: Progress
) -> int:
    """Train a generator as the decoder of a conditional variational autoencoder; returns the number of steps taken.

    Kingma and Welling 2014, Sohn et al. 2015; the loss, as in TVAE (Xu et al. 2019), is cross-entropy for categories
    and squared error for numbers.
    """
    width = made.relaxation.width
    hot = made.relaxation.groups.any(1)
    with seeded(int(torch.randint(2**31, (1,), generator=generator))):
        encoder = nn.Sequential(nn.Linear(width + made.classes, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2 * NOISE))
    optimizer = torch.optim.Adam([*made.parameters, *encoder.parameters()], lr=2e-3)
    deadline = clock.seconds() + duration.seconds
    for step in range(duration.steps):
        rows = torch.randint(len(real), (64,), generator=generator)
        records, labels = real.records[rows], real.labels[rows]
        mean, log = encoder(_with(records, labels, made.classes)).chunk(2, 1)
        noise = mean + (log / 2).exp() * torch.randn(mean.shape, generator=generator)
        told = made(noise, labels)
        wrong = torch.where(hot, -records * told.clamp_min(1e-6).log(), (records - told).square() / (2 * 0.3**2)).sum(1)
        apart = (mean.square() + log.exp() - 1 - log).sum(1) / 2
        optimizer.zero_grad()
        torch.autograd.backward((wrong + apart).mean())
        optimizer.step()
        if step % 20 == 0:
            progress(step / duration.steps)
            if clock.seconds() > deadline:
                return step + 1
    return duration.steps


@dataclass(frozen=True)
class LatentDescent:
    """What is minimized over a generator's noise, in how many steps of which length."""

    misfit: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Function from batches (restarts, n, width) with labels (restarts, n) to values (restarts,) and slopes (restarts,
    n, width)."""
    steps: int
    """Steps of Adam."""
    lr: float
    """Learning rate of Adam."""


def search_latent(
    made: Generator, descent: LatentDescent, labels: Tensor, generator: torch.Generator, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Search latents whose records explain an update; returns records (restarts, n, width) and misfits (restarts,).

    `labels` are (restarts, n). Adam on the noise, with a pull towards the standard normal of training (Zhang et al.
    2020, GMI; Li et al. 2022, GGL).
    """
    restarts, n = labels.shape
    noise = torch.randn(restarts * n, NOISE, generator=generator).requires_grad_(True)
    optimizer = torch.optim.Adam([noise], lr=descent.lr)
    best, kept = torch.full((restarts,), torch.inf), torch.zeros(restarts, n, made.relaxation.width)
    for step in range(descent.steps):
        records = made(noise, labels.flatten()).view(restarts, n, -1)
        value, slope = descent.misfit(records.detach(), labels)
        better = value < best
        best, kept = torch.where(better, value, best), torch.where(better[:, None, None], records.detach(), kept)
        optimizer.zero_grad()
        torch.autograd.backward((records * slope).sum())
        assert noise.grad is not None
        noise.grad += 1e-4 * noise.detach()
        optimizer.step()
        if step % 20 == 0:
            progress(step / descent.steps)
    return kept, best


def _critic(width: int, classes: int, generator: torch.Generator) -> nn.Sequential:
    with seeded(int(torch.randint(2**31, (1,), generator=generator))):
        return nn.Sequential(nn.Linear(width + classes, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, 1))


def _with(records: Tensor, labels: Tensor, classes: int) -> Tensor:
    return torch.cat([records, one_hot(labels, classes).float()], 1)
