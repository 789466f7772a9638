"""Refines records that explain an update as one gradient halfway, by simulating the local steps one by one.

Several rounds in which the client trained on the same records are refined together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge, Observation, Progress

from ..local_training import local_steps
from .chain import Chain
from .matcher import Matching
from .optimize import Descent, Found, Problem, descend, part
from .presets import Preset
from .relaxation import Relaxation
from .unrolled import likeliest_length, simulated

STEPS = 4
"""Local steps that are simulated at most; each costs as much as two gradients.

With fewer, fewer records are rebuilt (hospital, seeds 101 and 102, of 128): 122 with 4, 120 with 3, 109 with 2.
"""
FIRST = 0.2
"""Length of the refinement's first step in free numbers."""
QUICK = 0.4
"""Share of a refinement's iterations after which it ends where the update is explained, see SETTLED.

Of the same 128 records 122 are rebuilt at 0.4, 120 at 0.3 and 115 at 0.2; on the first seed L-BFGS rebuilds 55 of 64 in
as many steps as the latter, which rebuilds 52.
"""
SETTLED = 0.01
"""Misfit up to which a refinement has arrived: what is left is mostly the unknown order of the batches."""
SHARE = 2.0
"""Work that a refinement may take for each round, as a multiple of the preset's."""
FEWEST = 50
"""Least number of a refinement's iterations, unless the preset has fewer."""
MOST = 4
"""Largest number of rounds that are refined together, the latest ones."""
ALIKE = 0.5
"""An earlier round counts as trained on the same records where its misfit at the found records is below this share of
its mean misfit at drawn ones."""


class Costed(Protocol):
    """An Objective whose calls have a known cost."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The misfit of batches with its slopes; see Objective."""
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
    """The objective of each round."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The misfit (restarts,) and its slopes with respect to inputs and labels; see Objective."""
        values, by_inputs, by_labels = zip(*(one(inputs, labels) for one in self.rounds), strict=True)
        known = [slope for slope in by_labels if slope is not None]
        slopes = torch.stack(known).mean(0) if len(known) == len(self.rounds) else None
        return torch.stack(values).mean(0), torch.stack(by_inputs).mean(0), slopes

    def flops(self, records: int) -> float:
        """Floating-point operations of one call over one batch of `records`."""
        return sum(one.flops(records) for one in self.rounds)

    def held(self, records: int) -> int:
        """Numbers that one call holds per intermediate and restart."""
        return max(one.held(records) for one in self.rounds)


def mean_objective(rounds: Sequence[Costed]) -> Costed:
    """The mean of several rounds' objectives; of a single one, itself."""
    return rounds[0] if len(rounds) == 1 else MeanObjective(tuple(rounds))


def joinable(seen: Observation, knows: Knowledge) -> tuple[Exchange, ...]:
    """The latest exchanges that may be of the same records, oldest first, the last one always among them.

    FedAvg trains on all of a client's records in each round; FedSGD draws a new batch, so that its rounds are not
    joined.
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
    """The rounds to be refined together, oldest first: the last one, and the `earlier` ones with the same records.

    The records `found` in the last round must explain an earlier one far better than drawn ones (draws, n, width) do;
    they were not fitted to it, so that this is evidence. An earlier one for which `match` raises ValueError is left
    out.
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
    """Whether records (1, n, width) explain a round far better than drawn ones (draws, n, width), see ALIKE.

    All have the labels (1, n, outputs).
    """
    found = float(misfit(records, labels)[0][0])
    chance = misfit(drawn, labels.expand(len(drawn), -1, -1))[0]
    return found < ALIKE * float(chance.mean())


@dataclass(frozen=True)
class Refined:
    """Restarts after the refinement, and how far the best one explains the update."""

    found: Found
    """The refined batch first, then the other restarts; all misfits are of the simulated training."""
    explained: float
    """Squared cosine of the last update and the simulated one, 0 to 1."""
    notes: tuple[str, ...]
    """Remarks for the claim on what was simulated."""


@dataclass(frozen=True)
class Refinement:
    """Settings of a refinement."""

    relaxation: Relaxation
    knows: Knowledge
    length: float | None
    """Learning rate summed over the local steps; None where it is not known: then it is fitted to the last update."""
    preset: Preset
    """Preset whose `simulate` and `work` limit the iterations, and `seconds` the time."""


def refined(
    found: Found, rounds: Sequence[tuple[Matching, Exchange]], how: Refinement, progress: Progress
) -> Refined | None:
    """Continue from the best restart with each round's local training simulated; the others are only evaluated again.

    None after a single step, for networks that are no chain of linear layers, and where records' gradients are clipped.
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
    objective = mean_objective([simulated(c, e, knows.at(e.round), length, STEPS) for c, e in chains])
    affordable = SHARE * preset.work * 1e9 * len(chains) / objective.flops(last.records)
    iterations = int(min(preset.simulate, max(FEWEST, affordable)))
    problem, quick = Problem(objective, relaxation), math.ceil(QUICK * iterations)
    descent = Descent(quick, FIRST, seconds=preset.seconds)
    best = descend(resumed(relaxation, inputs), labels, problem, descent, part(progress, 0, QUICK))
    if float(best.misfits[0]) > SETTLED and iterations > quick:
        descent = replace(descent, iterations=iterations - quick)
        best = descend(resumed(relaxation, best.inputs), labels, problem, descent, part(progress, QUICK, 1))
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
    """Free numbers (..., width) that give exactly these inputs, except shares of a group below `least`."""
    if relaxation.form != "relaxed":
        return inputs.clone()
    hot = relaxation.groups.sum(1) > 0
    return torch.where(hot, inputs.clamp_min(least).log(), relaxation.free(inputs))
