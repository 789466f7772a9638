"""Several rounds of one client that trained on the same records each time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge, Observation

from .chain import Chain
from .matcher import Matching, matching
from .optimize import Found
from .presets import Preset

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
class Joined:
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


def joined(rounds: Sequence[Costed]) -> Costed:
    """One objective for all rounds."""
    return rounds[0] if len(rounds) == 1 else Joined(tuple(rounds))


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
    seen: Observation,
    knows: Knowledge,
    preset: Preset,
    length: float | None,
    last: Matching,
    found: Found,
    drawn: Tensor,
) -> tuple[tuple[Matching, Exchange], ...]:
    """The rounds to be searched together, oldest first: the last one, and those that may join and do fit.

    The records `found` in the last round alone must explain an earlier one far better than drawn ones (draws, n, width)
    do: they cannot have been fitted to it.
    """
    rounds = [(last, seen.last)]
    if preset.join and isinstance(last.plain, Chain):
        for one in joinable(seen, knows)[-2::-1]:
            try:
                match = matching(one, knows, preset, length, drawn.device)
            except ValueError:
                continue
            if explains(match.plain, found.inputs[:1], drawn, found.labels[:1]):
                rounds.insert(0, (match, one))
    return tuple(rounds)


def explains(misfit: Costed, records: Tensor, drawn: Tensor, labels: Tensor) -> bool:
    """Whether records (1, n, width) explain a round far better than drawn ones (draws, n, width) with their labels.

    labels (1, n, outputs).
    """
    found = float(misfit(records, labels)[0][0])
    chance = misfit(drawn, labels.expand(len(drawn), -1, -1))[0]
    return found < ALIKE * float(chance.mean())
