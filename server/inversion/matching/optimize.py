"""Descent on a misfit: all restarts in one tensor, each keeping the best of the batches that were evaluated."""

import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedinv.attack import Progress

from .objective import Objective
from .priors import Prior
from .relaxation import Relaxation
from .steps import Rule, Schedule, lengths, walk

CHUNK = 2**25
"""Numbers that one evaluation may hold per intermediate."""
GAIN = 0.05
"""Share of their misfit that restarts must shed over a Descent's patience."""
LOOK = 10
"""Steps between two looks at whether to stop."""


@dataclass(frozen=True)
class Problem:
    """What is to be explained, with records of which form."""

    objective: Objective
    relaxation: Relaxation
    priors: tuple[Prior, ...] = ()
    search: Literal["records", "classes", "targets"] = "records"
    """Whether labels are searched along with the records, as probabilities of classes or as regression targets."""


@dataclass(frozen=True)
class Found:
    """What the restarts ended with, best first."""

    inputs: Tensor
    """float32 (restarts, n, width)."""
    labels: Tensor
    """float32 (restarts, n, classes) probabilities, or (restarts, n, 1) regression targets."""
    misfits: Tensor
    """float32 (restarts,), of exactly these inputs and labels, priors included."""

    def like_best(self) -> "Found":
        """Only the restarts with the best one's labels: for labels that were given."""
        same = (self.labels == self.labels[0]).flatten(1).all(1)
        return Found(self.inputs[same], self.labels[same], self.misfits[same])


@dataclass(frozen=True)
class Descent:
    """How to walk, how long and how far: the first step's length in free numbers, and when to stop early."""

    iterations: int
    lr: float
    enough: float = 0.0
    """A restart has arrived once its misfit is below this; all stop when one has."""
    seconds: float = float("inf")
    """Wall clock after which the descent ends wherever it is."""
    patience: int = 0
    """Steps over which restarts must still gain, GAIN in the geometric mean, or all stop; 0 to walk to the end."""
    rule: Rule = "signed-adam"
    schedule: Schedule = "cosine"


def part(progress: Progress, begin: float, end: float) -> Progress:
    """Report the shares of a part of the work that runs from `begin` to `end`."""
    return lambda share: progress(begin + (end - begin) * share)


def descend(free: Tensor, labels: Tensor, problem: Problem, how: Descent, progress: Progress, held: int = 1) -> Found:
    """Minimize the misfit over free numbers (restarts, n, width), given labels (restarts, n, classes).

    Where labels are searched too, `labels` are where they start: the logarithms of probabilities up to a constant, or
    regression targets. `held` is the number of numbers that one evaluation holds per restart: as many restarts run
    at once as memory allows.
    """
    restarts = len(free)
    per_chunk = max(1, CHUNK // held)
    deadline = time.monotonic() + how.seconds
    parts = []
    for start in range(0, restarts, per_chunk):
        at = slice(start, start + per_chunk)
        report = part(progress, start / restarts, min(1.0, (start + per_chunk) / restarts))
        parts.append(_descend(free[at], labels[at], problem, how, deadline, report))
    inputs, chosen, misfits = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    order = misfits.argsort(stable=True)
    return Found(inputs[order], chosen[order], misfits[order])


def _descend(
    free: Tensor, labels: Tensor, problem: Problem, how: Descent, deadline: float, progress: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    shape, cut = free.shape, free[0].numel()
    start = free.flatten(1)
    if problem.search != "records":
        start = torch.cat([start, labels.flatten(1)], 1)
    best, kept = torch.full((len(free),), torch.inf, device=free.device), start.clone()
    steps = walk(how.rule, start, lengths(how.schedule, how.lr, how.iterations))
    point, reached = next(steps), list[float]()
    for step in range(how.iterations + 1):
        problem.relaxation.project(point[:, :cut].view(shape))
        value, slope = _evaluate(point, labels, shape, problem)
        if how.rule == "l-bfgs":  # whose pairs must not tell of moves that were cut off
            inputs = slope[:, :cut].view(shape)
            inputs.copy_(problem.relaxation.inward(inputs, point[:, :cut].view(shape)))
        better = value < best
        best = torch.where(better, value, best)
        kept = torch.where(better[:, None], point, kept)
        if step % LOOK == 0:
            progress(step / how.iterations)
            reached.append(float(best.clamp_min(1e-12).log().mean()))
            if bool((best < how.enough).any()) or time.monotonic() > deadline or _idle(reached, how.patience):
                break
        if step < how.iterations:
            point = steps.send((value, slope))
    steps.close()
    return problem.relaxation.inputs(kept[:, :cut].view(shape)), _labels(kept, cut, labels, problem), best


def _idle(reached: list[float], patience: int) -> bool:
    """Whether the restarts' mean logarithm of misfits, at every look, fell too little over the last steps."""
    looks = patience // LOOK
    return 0 < looks < len(reached) and reached[-1 - looks] - reached[-1] < GAIN


def _evaluate(point: Tensor, labels: Tensor, shape: torch.Size, problem: Problem) -> tuple[Tensor, Tensor]:
    cut = shape[1] * shape[2]
    inputs, given = problem.relaxation.inputs(point[:, :cut].view(shape)), _labels(point, cut, labels, problem)
    value, by_inputs, by_labels = problem.objective(inputs, given)
    for prior in problem.priors:
        more, steeper = prior(inputs)
        value, by_inputs = value + more, by_inputs + steeper
    slope = problem.relaxation.pull_back(by_inputs, inputs).flatten(1)
    if problem.search == "records":
        return value, slope
    if by_labels is None:
        raise ValueError("this objective cannot tell labels")
    if problem.search == "classes":
        by_labels = given * (by_labels - (given * by_labels).sum(-1, keepdim=True))
    return value, torch.cat([slope, by_labels.flatten(1)], 1)


def _labels(point: Tensor, cut: int, labels: Tensor, problem: Problem) -> Tensor:
    if problem.search == "records":
        return labels
    searched = point[:, cut:].view(labels.shape)
    return searched.softmax(-1) if problem.search == "classes" else searched
