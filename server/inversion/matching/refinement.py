"""From records that explain an update as one gradient halfway to records that explain it step by step.

Several rounds of one client that trained on the same records each time are refined together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge, Observation, Progress

from ..local_training import local_steps
from .chain import Chain
from .matcher import Matching
from .optimize import Descent, Found, Problem, descend
from .presets import Preset
from .relaxation import Relaxation
from .unrolled import likeliest_length, simulated

STEPS = 4
"""Steps that are simulated at the most: each costs as much as two gradients."""
FIRST = 0.3
"""The first step's length in free numbers."""
SHARE = 2.0
"""Work that a refinement may take for each round, as a share of that of the whole search before it."""
FEWEST = 50
"""Iterations that it takes at the least."""
MOST = 4
"""Latest rounds that are joined."""
ALIKE = 0.5
"""Misfit of an earlier round at the records found, as a share of its misfit at drawn ones, up to which the records are
taken to be the same."""


class Costed(Protocol):
    """An Objective that knows what a call costs."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See Objective."""
        ...

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`."""
        ...

    def held(self, records: int) -> int:
        """Numbers that one call holds per intermediate and restart."""
        ...


@dataclass(frozen=True)
class MeanObjective:
    """An Objective: the mean of several rounds' misfits, each at the weights of its round."""

    rounds: tuple[Costed, ...]

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The misfit (restarts,) and its slopes with respect to inputs and labels: see Objective."""
        values, by_inputs, by_labels = zip(*(one(inputs, labels) for one in self.rounds), strict=True)
        told = [slope for slope in by_labels if slope is not None]
        slopes = torch.stack(told).mean(0) if len(told) == len(self.rounds) else None
        return torch.stack(values).mean(0), torch.stack(by_inputs).mean(0), slopes

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`."""
        return sum(one.flops(records) for one in self.rounds)

    def held(self, records: int) -> int:
        """Numbers that one call holds per intermediate and restart."""
        return max(one.held(records) for one in self.rounds)


def mean_objective(rounds: Sequence[Costed]) -> Costed:
    """One objective for all rounds: the mean of theirs."""
    return rounds[0] if len(rounds) == 1 else MeanObjective(tuple(rounds))


def joinable(seen: Observation, knows: Knowledge) -> tuple[Exchange, ...]:
    """The latest exchanges that may be about the same records, oldest first, the last one always among them.

    FedAvg goes through all of a client's records in each round; FedSGD draws another batch, and is never joined.
    """
    last = seen.last
    if knows.algorithm != "fedavg":
        return (last,)
    shapes = {name: tensor.shape for name, tensor in last.received.items()}
    alike = [
        one
        for one in seen.exchanges[:-1]
        if one.records == last.records and {name: tensor.shape for name, tensor in one.received.items()} == shapes
    ]
    return (*alike[-(MOST - 1) :], last)


def same_records(
    earlier: Sequence[Exchange],
    last: tuple[Matching, Exchange],
    match: Callable[[Exchange], Matching],
    found: Found,
    drawn: Tensor,
) -> tuple[tuple[Matching, Exchange], ...]:
    """The rounds to be searched together, oldest first: the last one, and those of the `earlier` ones that do fit.

    The records `found` in the last round alone must explain an earlier one far better than drawn ones (draws, n, width)
    do: they cannot have been fitted to it. An earlier one that `match` raises ValueError for is left out.
    """
    rounds = [last]
    if isinstance(last[0].plain, Chain):
        for one in reversed(earlier):
            try:
                matched = match(one)
            except ValueError:
                continue
            if explains(matched.plain, found.inputs[:1], drawn, found.labels[:1]):
                rounds.insert(0, (matched, one))
    return tuple(rounds)


def explains(misfit: Costed, records: Tensor, drawn: Tensor, labels: Tensor) -> bool:
    """Whether records (1, n, width) explain a round far better than drawn ones (draws, n, width) with their labels.

    labels (1, n, outputs).
    """
    found = float(misfit(records, labels)[0][0])
    chance = misfit(drawn, labels.expand(len(drawn), -1, -1))[0]
    return found < ALIKE * float(chance.mean())


@dataclass(frozen=True)
class Refined:
    """Restarts after the refinement, and what came of it."""

    found: Found
    """The refined batch first, then the others; all misfits are of the simulated training."""
    explained: float
    """Squared cosine of the last update and the simulated one."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Refinement:
    """What a refinement goes by."""

    relaxation: Relaxation
    knows: Knowledge
    length: float | None
    """Learning rate summed over the local steps; None where it is not known: then the one at which the records explain
    the last update's own length best is taken."""
    preset: Preset
    """Whose `simulate` limits the iterations, and whose `work` and `seconds` limit the time."""


def refined(
    found: Found, rounds: Sequence[tuple[Matching, Exchange]], how: Refinement, progress: Progress
) -> Refined | None:
    """Go on from the best restart with each round's local training simulated; the other restarts stay as they are.

    None where there was one step, where the network is no chain of linear layers, and where records are clipped one by
    one.
    """
    relaxation, knows, length, preset = how.relaxation, how.knows, how.length, how.preset
    last = rounds[-1][1]
    taken = local_steps(knows, last.records)
    chains = [(m.objective, e) for m, e in rounds if isinstance(m.objective, Chain) and m.objective.clip == math.inf]
    plain = rounds[-1][0].plain
    if taken == 1 or len(chains) < len(rounds) or not isinstance(plain, Chain):
        return None
    together = (f"{len(rounds)} rounds of the same records were refined together",) if len(rounds) > 1 else ()
    inputs, labels = found.inputs[:1], found.labels[:1]
    order = "as its batches are not known"
    if length is None:
        length = likeliest_length(chains[-1][0], last, knows, inputs, labels, STEPS)
        order = f"of {length:.3g} learning rate in all, as fitted best"
    objective = mean_objective([simulated(c, e, knows, length, STEPS) for c, e in chains])
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
        (f"several local steps were simulated in {min(STEPS, taken or STEPS)} on all records, {order}", *together),
    )


def resumed(relaxation: Relaxation, inputs: Tensor, least: float = 1e-3) -> Tensor:
    """Free numbers (..., width) that stand for these very inputs, shares of a group below `least` raised to it."""
    if relaxation.form != "relaxed":
        return inputs.clone()
    hot = relaxation.groups.sum(1) > 0
    return torch.where(hot, inputs.clamp_min(least).log(), relaxation.free(inputs))
