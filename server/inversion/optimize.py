"""Gradient descent on the objective: all restarts in one tensor, one sign of the slope at a time."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Progress

from .objective import Dense, Direction, cosine
from .relaxation import LIMIT, Relaxation

MOMENTUM = 0.9
CHUNK = 2**25
"""Numbers that one evaluation may hold per intermediate."""


@dataclass(frozen=True)
class Problem:
    """What is to be explained, by which network, with records of which form."""

    relaxation: Relaxation
    layers: tuple[Dense, ...]
    target: tuple[Direction, ...]
    clip: float = math.inf
    """Norm to which each record's gradient was cut."""


@dataclass(frozen=True)
class Found:
    """What the restarts ended with, best first."""

    inputs: Tensor
    """float32 (restarts, n, width)."""
    labels: Tensor
    """int64 (restarts, n)."""
    cosines: Tensor
    """float32 (restarts,), of exactly these inputs."""

    def like_best(self) -> "Found":
        """Only the restarts with the best one's labels."""
        same = (self.labels == self.labels[0]).all(1)
        return Found(self.inputs[same], self.labels[same], self.cosines[same])


@dataclass(frozen=True)
class Descent:
    """How long and how far: steps, the first step's length in free numbers, and when to stop early."""

    iterations: int
    lr: float
    enough: float
    """A restart has arrived once 1 - cosine is below this; all stop when one has."""
    seconds: float
    """Wall clock after which the descent ends wherever it is."""


def part(progress: Progress, begin: float, end: float) -> Progress:
    """Report the shares of a part of the work that runs from `begin` to `end`."""
    return lambda share: progress(begin + (end - begin) * share)


def descend(
    free: Tensor,
    labels: Tensor,
    problem: Problem,
    how: Descent,
    progress: Progress,
) -> Found:
    """Maximize the cosine over free numbers (restarts, n, width), given labels int64 (restarts, n).

    Signed Adam with a cosine-decayed step (Geiping et al. 2020, section 4; Loshchilov and Hutter 2017): a sign's
    square is 1, so that Adam's second moment drops out. Each restart keeps the best of the iterates that were
    evaluated.
    """
    restarts, n, _ = free.shape
    classes = problem.layers[-1].bias.numel()
    widest = max(max(layer.weight.shape) for layer in problem.layers)
    per_chunk = max(1, CHUNK // (n * max(widest, n)))
    deadline = time.monotonic() + how.seconds
    parts = []
    for start in range(0, restarts, per_chunk):
        at = slice(start, start + per_chunk)
        hot = torch.nn.functional.one_hot(labels[at], classes).float()
        report = part(progress, start / restarts, min(1.0, (start + per_chunk) / restarts))
        parts.append(_descend(free[at], hot, problem, how, deadline, report))
    inputs, cosines = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    order = cosines.argsort(descending=True, stable=True)
    return Found(inputs[order], labels[order], cosines[order])


def _descend(
    free: Tensor,
    hot: Tensor,
    problem: Problem,
    how: Descent,
    deadline: float,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    relaxation, layers, target = problem.relaxation, problem.layers, problem.target
    free, drift = free.clone(), torch.zeros_like(free)
    best = torch.full((len(free),), -torch.inf)
    kept = relaxation.inputs(free)
    for step in range(how.iterations + 1):
        inputs = relaxation.inputs(free)
        value, slope = cosine(inputs, hot, layers, target, problem.clip)
        better = value > best
        best = torch.where(better, value, best)
        kept = torch.where(better[:, None, None], inputs, kept)
        if step % 10 == 0:
            progress(step / how.iterations)
            if bool((best > 1 - how.enough).any()) or time.monotonic() > deadline:
                break
        if step == how.iterations:
            break
        drift.mul_(MOMENTUM).add_(relaxation.pull_back(slope, inputs).sign(), alpha=1 - MOMENTUM)
        length = how.lr * 0.5 * (1 + math.cos(math.pi * step / how.iterations)) / (1 - MOMENTUM ** (step + 1))
        free.add_(drift, alpha=length)
        if relaxation.bounded:
            free.clamp_(-LIMIT, LIMIT)
    return kept, best
