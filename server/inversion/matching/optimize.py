"""Minimizes a misfit: all restarts in one tensor, each keeping the best batch that was evaluated."""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from fedinv.attack import Progress, Watch

from .. import clock
from .objective import Objective
from .priors import Prior
from .relaxation import Relaxation
from .steps import Rule, Schedule, lengths, walk

CHUNK = 2**25
"""Most numbers that an intermediate tensor of one evaluation may hold."""
GAIN = 0.05
"""Decrease of the misfits' mean logarithm that a Descent's patience requires."""
LOOK = 10
"""Steps between two checks whether to stop."""


class Annealed(Protocol):
    """Objectives that change during a search, whose misfits at different steps are not comparable."""

    def at(self, share: float, step: int) -> Objective:
        """The objective at the step number `step`, the share 0 to 1 of the search."""
        ...


@dataclass(frozen=True)
class Problem:
    """An objective and the space in which it is minimized."""

    objective: Objective
    """The misfit that is minimized, or, where `annealed` is given, by which the batches that it ends in are ranked."""
    relaxation: Relaxation
    """Map from free numbers to inputs."""
    priors: tuple[Prior, ...] = ()
    """Penalties that are added to the misfit."""
    search: Literal["records", "classes", "targets"] = "records"
    """Unknowns: records only, or labels with them, as probabilities of classes or as regression targets."""
    annealed: Annealed | None = None
    """The misfit that is minimized at each step, changing from step to step; None: `objective` all along."""


@dataclass(frozen=True)
class Found:
    """The best batch of each restart, restarts with the smallest misfit first."""

    inputs: Tensor
    """Records as network inputs, float32 (restarts, n, width)."""
    labels: Tensor
    """Probabilities of classes, float32 (restarts, n, classes), or regression targets, (restarts, n, 1)."""
    misfits: Tensor
    """Misfit of exactly these inputs and labels, priors included, float32 (restarts,)."""

    def like_best(self) -> "Found":
        """The restarts that have the same labels as the best one."""
        same = (self.labels == self.labels[0]).flatten(1).all(1)
        return Found(self.inputs[same], self.labels[same], self.misfits[same])


@dataclass(frozen=True)
class Descent:
    """The optimizer of a search, and when it stops."""

    iterations: int
    """Steps at most."""
    lr: float
    """Length of the first step in free numbers."""
    enough: float = 0.0
    """Misfit below which a restart has arrived; all stop when one has."""
    seconds: float = float("inf")
    """Seconds of computing after which the search stops."""
    patience: int = 0
    """Steps over which the restarts' mean log misfit must fall by GAIN, or all stop; 0: never checked."""
    rule: Rule = "signed-adam"
    """Optimizer of the search."""
    schedule: Schedule = "cosine"
    """Decay of the step length."""
    watch: Watch | None = None
    """Called every LOOK steps with the records of the best restart so far; None: nobody looks."""


def part(progress: Progress, begin: float, end: float) -> Progress:
    """Progress of a part of the work: its shares 0 to 1 are reported as `begin` to `end`."""
    return lambda share: progress(begin + (end - begin) * share)


def part_of(watch: Watch, begin: float, end: float) -> Watch:
    """A look at a part of the work: its shares 0 to 1 are reported as `begin` to `end`."""
    return lambda share, records: watch(begin + (end - begin) * share, records)


def descend(free: Tensor, labels: Tensor, problem: Problem, how: Descent, progress: Progress, held: int = 1) -> Found:
    """Minimize the misfit over free numbers (restarts, n, width), given labels (restarts, n, classes).

    Where labels are searched too, the search of them starts at `labels`: log probabilities up to a constant, or
    regression targets. `held` is how many numbers one evaluation holds in memory per restart; as many restarts run at
    once as CHUNK allows.
    """
    restarts = len(free)
    per_chunk = max(1, CHUNK // held)
    deadline = clock.seconds(free.device) + how.seconds
    parts = []
    for start in range(0, restarts, per_chunk):
        at = slice(start, start + per_chunk)
        report = part(progress, start / restarts, min(1.0, (start + per_chunk) / restarts))
        seen = (
            None
            if how.watch is None
            else part_of(how.watch, start / restarts, min(1.0, (start + per_chunk) / restarts))
        )
        parts.append(_descend(free[at], labels[at], problem, replace(how, watch=seen), deadline, report))
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
        annealed = problem.annealed
        objective = problem.objective if annealed is None else annealed.at(step / max(1, how.iterations), step)
        value, slope = _evaluate(point, labels, shape, problem, objective)
        if how.rule == "l-bfgs":  # whose pairs must not contain moves that the projection undid
            inputs = slope[:, :cut].view(shape)
            inputs.copy_(problem.relaxation.inward(inputs, point[:, :cut].view(shape)))
        better = value < best if annealed is None else value < torch.inf
        best = torch.where(better, value, best)
        kept = torch.where(better[:, None], point, kept)
        if step % LOOK == 0:
            progress(step / how.iterations)
            if how.watch is not None:
                at_best = kept[int(best.argmin()), :cut].view(shape[1:])
                how.watch(step / how.iterations, problem.relaxation.inputs(at_best).clone())
            reached.append(float(best.clamp_min(1e-12).log().mean()))
            arrived = annealed is None and bool((best < how.enough).any())
            if arrived or clock.seconds(free.device) > deadline or clock.over() or _idle(reached, how.patience):
                break
        if step < how.iterations:
            point = steps.send((value, slope))
    steps.close()
    inputs, chosen = problem.relaxation.inputs(kept[:, :cut].view(shape)), _labels(kept, cut, labels, problem)
    return inputs, chosen, best if annealed is None else problem.objective(inputs, chosen)[0]


def _idle(reached: list[float], patience: int) -> bool:
    """Whether the mean log misfits `reached`, one a check, fell by less than GAIN over the last `patience` steps."""
    looks = patience // LOOK
    return 0 < looks < len(reached) and reached[-1 - looks] - reached[-1] < GAIN


def _evaluate(
    point: Tensor, labels: Tensor, shape: torch.Size, problem: Problem, objective: Objective
) -> tuple[Tensor, Tensor]:
    cut = shape[1] * shape[2]
    inputs, given = problem.relaxation.inputs(point[:, :cut].view(shape)), _labels(point, cut, labels, problem)
    value, by_inputs, by_labels = objective(inputs, given)
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
