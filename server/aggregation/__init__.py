"""How the replies of a round come in, and what mean is taken of them: as a defense that has a file here has it done.

A file is named after the defense's kind and has one of these functions, or both.

gather(grid, messages, timeout, agreement) -> Gathered           a protocol of messages, as secure aggregation's
mean(agreement, sent, updates, weights, round_) -> Weights       the mean of updates that the server sees

Without such a defense replies come one by one, and the weighted mean is taken.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid
from torch import Tensor

from fedinv.federation import wire
from fedinv.federation.agreement import Agreement

from ..messaging import ask

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Summed:
    """What a secure aggregation gives beside the clients' messages."""

    mean: Mapping[str, Tensor] | None
    """The weighted mean over all clients whose reply is no error; None where the protocol came to no sum."""
    halted: str
    """Why it came to none."""
    bytes_up: int
    """All that the clients sent in the round, the protocol's own messages included."""


@dataclass(frozen=True)
class Gathered:
    """What came back in a round."""

    replies: list[Message]
    """One a client that answered: its update, as far as the server can see it, or an error."""
    summed: Summed | None = None
    """None where the server adds up the updates by itself."""


def gather(grid: Grid, messages: Sequence[Message], timeout: float, agreement: Agreement) -> Gathered:
    """Send a round's messages and collect the replies, by the protocol of the scenario's secure aggregation."""
    protocol = _having(agreement, "gather")
    if protocol is None:
        return Gathered(ask(grid, messages, timeout))
    gathered: Gathered = protocol.gather(grid, messages, timeout, agreement)
    return gathered


def mean(
    agreement: Agreement, sent: Weights, updates: Sequence[Weights], weights: Sequence[float], round_: int
) -> Weights:
    """The mean of the updates that answer `sent`, each counting by its weight, as the defenses have it taken."""
    taker = _having(agreement, "mean")
    if taker is None:
        return wire.weighted_mean(updates, weights)
    taken: Weights = taker.mean(agreement, sent, updates, weights, round_)
    return taken


def _having(agreement: Agreement, way: str) -> ModuleType | None:
    """The file of the first of the scenario's defenses that has one here with this function."""
    for defense in agreement.defenses:
        stem = str(defense.get("kind", "")).replace("-", "_")
        if stem in _stems() and hasattr(module := importlib.import_module(f".{stem}", __name__), way):
            return module
    return None


@cache
def _stems() -> frozenset[str]:
    return frozenset(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def size(message: Message) -> int:
    """Bytes of what a reply holds: arrays as they are serialized, byte strings, and 8 for each number."""
    if message.has_error():
        return 0
    content = message.content
    total = sum(len(array.data) for record in content.array_records.values() for array in record.values())
    numbers: list[Any] = [v for record in content.metric_records.values() for v in record.values()]
    for value in [*numbers, *(v for record in content.config_records.values() for v in record.values())]:
        for one in value if isinstance(value, list) else [value]:
            total += len(one) if isinstance(one, bytes | str) else 8
    return total
