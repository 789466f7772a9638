"""Deviations of a malicious server from the protocol: one file each, named after its key in the [server] table.

A file has one of these functions, or both; `setting` is the value that the scenario has under the key.

weights(model, round_, setting) -> Weights                 the weights sent to all clients of a round
next_model(sent, averaged, round_, setting) -> Weights     the global model after it; `averaged` is sent plus the mean

A deviation that is part of a protocol of messages, as `unmask` is of SecAgg+'s, is carried out by that protocol's file
in server/aggregation.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from fedinv.federation.agreement import Server

Weights = Mapping[str, Tensor]
"""Weights by parameter name."""


def weights(server: Server, model: Weights, round_: int) -> Weights:
    """The weights sent to the clients of a round: `model` itself if the server follows the protocol."""
    for deviation, setting in _deviations(server):
        if hasattr(deviation, "weights"):
            model = deviation.weights(model, round_, setting)
    return model


def next_model(server: Server, sent: Weights, averaged: Weights, round_: int) -> Weights:
    """The global model after a round in which `sent` was sent: `averaged` if the server follows the protocol."""
    for deviation, setting in _deviations(server):
        if hasattr(deviation, "next_model"):
            averaged = deviation.next_model(sent, averaged, round_, setting)
    return averaged


def _deviations(server: Server) -> Iterator[tuple[ModuleType, Any]]:
    """Module and setting of each deviation that is on, which is one whose key has not its default value."""
    for key, declared in type(server).model_fields.items():
        setting = getattr(server, key)
        if key in _stems() and setting != declared.default:
            yield import_module(f".{key}", __name__), setting


@cache
def _stems() -> frozenset[str]:
    return frozenset(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
