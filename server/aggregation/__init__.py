"""Gathers and averages the replies of a round, as the scenario's defenses that have a file here demand.

A file is named after the defense's kind and has one of these functions, or both.

gather(grid, messages, timeout, agreement) -> Gathered           runs a protocol of messages, as secure aggregation
mean(agreement, sent, updates, weights, round_) -> Weights       averages the updates that the server sees

Without such a defense each client replies once, and the mean is weighted.
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
"""Tensors by parameter name: weights, or an update of them."""


@dataclass(frozen=True)
class Summed:
    """The outcome of a round's secure aggregation."""

    mean: Mapping[str, Tensor] | None
    """Weighted mean over all clients whose reply is no error; None where the protocol came to no sum."""
    halted: str
    """Reason why the protocol gave no sum; empty where it gave one."""
    bytes_up: int
    """Bytes that clients sent in the round, with the protocol's own messages."""


@dataclass(frozen=True)
class Gathered:
    """The replies of a round."""

    replies: list[Message]
    """One reply for each client that answered: its update, as far as the server can see it, or an error."""
    summed: Summed | None = None
    """Outcome of the secure aggregation; None where the server averages the updates by itself."""


def gather(grid: Grid, messages: Sequence[Message], timeout: float, agreement: Agreement) -> Gathered:
    """Send a round's messages and collect the replies, by the protocol of the scenario's secure aggregation if any.

    `timeout` is in seconds, for each exchange of messages.
    """
    protocol = _having(agreement, "gather")
    if protocol is None:
        return Gathered(ask(grid, messages, timeout))
    gathered: Gathered = protocol.gather(grid, messages, timeout, agreement)
    return gathered


def mean(
    agreement: Agreement, sent: Weights, updates: Sequence[Weights], weights: Sequence[float], round_: int
) -> Weights:
    """The mean of the updates that answer `sent`: the defenses' own, or else weighted by `weights`."""
    taker = _having(agreement, "mean")
    if taker is None:
        return wire.weighted_mean(updates, weights)
    taken: Weights = taker.mean(agreement, sent, updates, weights, round_)
    return taken


def _having(agreement: Agreement, way: str) -> ModuleType | None:
    """The module of the first of the scenario's defenses that has a file here with this function; None without one."""
    for defense in agreement.defenses:
        stem = str(defense.get("kind", "")).replace("-", "_")
        if stem in _stems() and hasattr(module := importlib.import_module(f".{stem}", __name__), way):
            return module
    return None


@cache
def _stems() -> frozenset[str]:
    return frozenset(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def size(message: Message) -> int:
    """Bytes of a reply's content: serialized arrays, byte strings, and 8 for each number; 0 for an error."""
    if message.has_error():
        return 0
    content = message.content
    total = sum(len(array.data) for record in content.array_records.values() for array in record.values())
    numbers: list[Any] = [v for record in content.metric_records.values() for v in record.values()]
    for value in [*numbers, *(v for record in content.config_records.values() for v in record.values())]:
        for one in value if isinstance(value, list) else [value]:
            total += len(one) if isinstance(one, bytes | str) else 8
    return total
