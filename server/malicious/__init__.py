"""What a malicious server does beyond the protocol: one file a deviation, named after its key in the [server] table.

A file has one of these functions, or both; `setting` is what the scenario writes under the key.

weights(model, round_, setting) -> Weights                 what all clients of the round are sent for the global model
next_model(sent, averaged, round_, setting) -> Weights     what it goes on from, `averaged` being sent plus the mean

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


def weights(server: Server, model: Weights, round_: int) -> Weights:
    """What the clients of a round are sent: the very `model` of a server that follows the protocol."""
    for deviation, setting in _deviations(server):
        if hasattr(deviation, "weights"):
            model = deviation.weights(model, round_, setting)
    return model


def next_model(server: Server, sent: Weights, averaged: Weights, round_: int) -> Weights:
    """The global model after a round in which `sent` was answered: `averaged`, if the server follows the protocol."""
    for deviation, setting in _deviations(server):
        if hasattr(deviation, "next_model"):
            averaged = deviation.next_model(sent, averaged, round_, setting)
    return averaged


def _deviations(server: Server) -> Iterator[tuple[ModuleType, Any]]:
    """Those that are switched on: whose key has another value than when it is left out."""
    for key, declared in type(server).model_fields.items():
        setting = getattr(server, key)
        if key in _stems() and setting != declared.default:
            yield import_module(f".{key}", __name__), setting


@cache
def _stems() -> frozenset[str]:
    return frozenset(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
