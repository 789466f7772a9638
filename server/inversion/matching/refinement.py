"""From records that explain an update as one gradient halfway to records that explain it step by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge, Progress

from ..local_training import local_steps
from .chain import Chain
from .matcher import Matching
from .optimize import Descent, Found, Problem, descend
from .presets import Preset
from .relaxation import Relaxation
from .rounds import joined
from .unrolled import likeliest_length, simulated

STEPS = 4
"""Steps that are simulated at the most: each costs as much as two gradients."""
FIRST = 0.3
"""The first step's length in free numbers."""
SHARE = 2.0
"""Work that a refinement may take for each round, as a share of that of the whole search before it."""
FEWEST = 50
"""Iterations that it takes at the least."""


@dataclass(frozen=True)
class Refined:
    """Restarts after the refinement, and what came of it."""

    found: Found
    """The refined batch first, then the others; all misfits are of the simulated training."""
    explained: float
    """Squared cosine of the last update and the simulated one."""
    notes: tuple[str, ...]


def refined(
    found: Found,
    rounds: Sequence[tuple[Matching, Exchange]],
    relaxation: Relaxation,
    knows: Knowledge,
    length: float | None,
    preset: Preset,
    progress: Progress,
) -> Refined | None:
    """Go on from the best restart with each round's local training simulated; the other restarts stay as they are.

    `length` is the learning rate summed over the local steps, None where it is not known: then the length is taken at
    which the records explain the last update's own length best. None where there was one step, where the network is no
    chain of linear layers, and where records are clipped one by one.
    """
    last = rounds[-1][1]
    taken = local_steps(knows, last.records)
    chains = [(m.objective, e) for m, e in rounds if isinstance(m.objective, Chain) and m.objective.clip == math.inf]
    plain = rounds[-1][0].plain
    if taken == 1 or len(chains) < len(rounds) or not isinstance(plain, Chain):
        return None
    together = (f"{len(rounds)} rounds of the same records were refined together",) if len(rounds) > 1 else ()
    inputs, labels = found.inputs[:1], found.labels[:1]
    how = "as its batches are not known"
    if length is None:
        length = likeliest_length(chains[-1][0], last, knows, inputs, labels, STEPS)
        how = f"of {length:.3g} learning rate in all, as fitted best"
    objective = joined([simulated(c, e, knows, length, STEPS) for c, e in chains])
    affordable = SHARE * preset.work * 1e9 * len(chains) / objective.flops(last.records)
    iterations = int(min(preset.simulate, max(FEWEST, affordable)))
    descent = Descent(iterations, FIRST, seconds=preset.seconds)
    best = descend(resumed(relaxation, inputs), labels, Problem(objective, relaxation), descent, progress)
    with torch.no_grad():
        rest = [objective(i[None], y[None])[0] for i, y in zip(found.inputs[1:], found.labels[1:], strict=True)]
        misfit = simulated(plain, last, knows, length, STEPS).misfit(best.inputs, best.labels)
    misfits = torch.cat([best.misfits, *(torch.maximum(m, best.misfits) for m in rest)])
    return Refined(
        Found(torch.cat([best.inputs, found.inputs[1:]]), found.labels, misfits),
        max(0.0, 1 - float(misfit[0])) ** 2,
        (f"several local steps were simulated in {min(STEPS, taken or STEPS)} on all records, {how}", *together),
    )


def resumed(relaxation: Relaxation, inputs: Tensor, least: float = 1e-3) -> Tensor:
    """Free numbers (..., width) that stand for these very inputs, shares of a group below `least` raised to it."""
    if relaxation.form != "relaxed":
        return inputs.clone()
    hot = relaxation.groups.sum(1) > 0
    return torch.where(hot, inputs.clamp_min(least).log(), relaxation.free(inputs))
