"""Searches inputs that a model takes for typical of a class, by its gradients or by its confidences alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from fedinv.attack import Progress
from fedinv.task.columns import Categorical, Image
from fedinv.task.schema import Schema

from ..inversion.matching.priors import Prior
from ..inversion.matching.relaxation import Relaxation
from ..inversion.matching.steps import lengths, walk

Slopes = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function from inputs (n, width) and their classes (n,) to costs (n,) and slopes (n, width)."""

SURE = 1e-12
"""Floor of probabilities before their logarithm is taken."""
PATCH = 3
"""Height and width in pixels of the patches that a probing step of an image moves together."""


@dataclass(frozen=True)
class ClassDescent:
    """A descent towards a class: a model's cost and priors, and the length of the search."""

    slopes: Slopes
    """Function that gives the model's costs and slopes."""
    relaxation: Relaxation
    """Map from free numbers to inputs."""
    priors: Sequence[Prior]
    """Penalties that are added to the cost."""
    iterations: int
    """Steps of Adam."""
    lr: float
    """Length of the first step in free numbers."""


def by_gradient(network: nn.Sequential, goal: Literal["loss", "output"]) -> Slopes:
    """Costs and slopes by differentiating the network: the class's loss, or minus its raw output."""

    def slopes(inputs: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        at = inputs.detach().requires_grad_(True)
        answers = network(at)
        if goal == "loss":
            costs = cross_entropy(answers, classes, reduction="none")
        else:
            costs = -answers.gather(1, classes[:, None])[:, 0]
        (slope,) = torch.autograd.grad(costs.sum(), at)
        return costs.detach(), slope

    return slopes


def by_confidence(
    confidences: Callable[[Tensor], Tensor], probes: int, reach: float, image: Image | None, generator: torch.Generator
) -> Slopes:
    """Costs and slopes of the class's loss from probabilities alone, by 2 * `probes` queries a record and slope.

    Differences between mirrored steps of standard deviation `reach` (Salimans et al. 2017, section 2.1; Spall 1992): an
    unbiased slope of the smoothed loss. An image is probed by smooth steps, drawn for patches: the slope then is as
    smooth, and needs fewer probes. Costs are means over the probes.
    """

    def slopes(inputs: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        n, width = inputs.shape
        steps = _steps(probes * n, width, image, generator).reshape(probes, n, width)
        asked = torch.cat([inputs + reach * steps, inputs - reach * steps]).reshape(-1, width)
        chances = confidences(asked).gather(1, classes.repeat(2 * probes)[:, None])
        ahead, behind = -chances.clamp_min(SURE).log().reshape(2, probes, n)
        slope = ((ahead - behind)[:, :, None] * steps).mean(0) / (2 * reach)
        return (ahead + behind).mean(0) / 2, slope

    return slopes


def _steps(count: int, width: int, image: Image | None, generator: torch.Generator) -> Tensor:
    """Random steps (count, width), standard normal; an image's are drawn for patches and enlarged bilinearly."""
    if image is None:
        return torch.randn(count, width, generator=generator)
    coarse = (-(-image.down // PATCH), -(-image.across // PATCH))
    drawn = torch.randn(count, image.channels, *coarse, generator=generator)
    return interpolate(drawn, (image.down, image.across), mode="bilinear", align_corners=False).flatten(1)


def marginals(schema: Schema, weight: float) -> Prior:
    """A prior that penalizes inputs by minus the log density of the published marginals, times a weight.

    Columns count as independent: half the square of a standardized number, and the relative entropy of a one-hot
    group's shares to the published frequencies.
    """
    frequencies = average(schema)
    hot = torch.zeros(schema.width)
    for column, at in zip(schema.columns, schema.slices, strict=True):
        hot[at] = float(isinstance(column, Categorical))
    logs = frequencies.clamp_min(1e-4).log()

    def prior(inputs: Tensor) -> tuple[Tensor, Tensor]:
        surprise = inputs.clamp_min(1e-6).log() - logs
        value = torch.where(hot > 0, inputs * surprise, inputs.square() / 2)
        slope = torch.where(hot > 0, surprise + 1, inputs)
        return weight * value.sum((1, 2)), weight * slope

    return prior


def average(schema: Schema) -> Tensor:
    """The published mean of the population, encoded, (width,): 0 for numbers and pixels, frequencies for categories."""
    parts = [
        torch.tensor(c.frequencies) / sum(c.frequencies) if isinstance(c, Categorical) else torch.zeros(c.width)
        for c in schema.columns
    ]
    return torch.cat(parts)


def begin(
    schema: Schema, relaxation: Relaxation, restarts: int, start: Literal["mean", "random"], rng: np.random.Generator
) -> Tensor:
    """Free numbers to start from (classes * restarts, width), class by class.

    `start` "mean": the published mean, and near it for further restarts; "random": records drawn from the marginals.
    """
    count = schema.outputs * restarts
    drawn = schema.draw(count, rng)
    mean = average(schema)
    inputs = drawn if start == "random" else mean + 0.1 * (drawn - mean)
    if start == "mean" and restarts:
        inputs[::restarts] = mean
    hot = relaxation.groups.sum(1) > 0
    return torch.where(hot, inputs.clamp_min(1e-3).log(), relaxation.free(inputs))


def representatives(start: Tensor, classes: Tensor, descent: ClassDescent, progress: Progress) -> tuple[Tensor, Tensor]:
    """Descend from free numbers (n, width), each to its class (n,); returns inputs (n, width) and least costs (n,).

    Fredrikson et al. 2015, algorithm 1, with Adam's steps, and with priors in place of its processing step.
    """
    steps = walk("adam", start, lengths("cosine", descent.lr, descent.iterations))
    least, kept = torch.full((len(start),), torch.inf), start.clone()
    point = next(steps)
    for step in range(descent.iterations + 1):
        descent.relaxation.project(point)
        inputs = descent.relaxation.inputs(point)
        cost, slope = descent.slopes(inputs, classes)
        for prior in descent.priors:
            more, steeper = prior(inputs[:, None])
            cost, slope = cost + more, slope + steeper[:, 0]
        better = cost < least
        least = torch.where(better, cost, least)
        kept = torch.where(better[:, None], point, kept)
        if step < descent.iterations:
            point = steps.send((cost, descent.relaxation.pull_back(slope, inputs)))
        if step % 10 == 0:
            progress(step / max(1, descent.iterations))
    steps.close()
    return descent.relaxation.inputs(kept), least
