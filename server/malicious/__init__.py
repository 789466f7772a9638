"""Deviations of a malicious server from the protocol: one file each, named after its kind; see `fedinv.deviation`.

A deviation whose messages are part of a protocol, as `unmask` has SecAgg+'s, is carried out by that protocol's file in
server/aggregation.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedinv.attack import Exchange, Knowledge
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.errors import RunError
from fedinv.federation.agreement import Agreement, Server
from fedinv.federation.streams import stream

Look = Callable[[int], tuple[Exchange, ...]]
"""Function that returns what a client sent back in earlier rounds."""


@dataclass(frozen=True)
class Planned:
    """The weights of one round."""

    model: Weights
    """The global model before the round, which a server that follows the protocol sends to all."""
    sent: Mapping[int, Weights]
    """Weights that each client of the round is sent; where all are sent the same, the same mapping."""
    deviations: tuple[Deviation, ...]
    """Deviations of the round."""

    @property
    def base(self) -> Weights:
        """What all clients were sent, where it was the same for all; else the global model."""
        first = next(iter(self.sent.values()), self.model)
        return first if all(one is first for one in self.sent.values()) else self.model

    def next_model(self, averaged: Weights, round_: int) -> Weights:
        """The global model after the round; `averaged` is `base` after the strategy's step."""
        for deviation in self.deviations:
            averaged = deviation.next_model(self.model, self.base, averaged, round_)
        return averaged


def deviations(server: Server) -> tuple[Deviation, ...]:
    """The deviations of a [server] table, those that have a key of their own first."""
    return tuple(_parse(table) for table in (*server.short_forms, *server.deviations))


def active(agreement: Agreement, round_: int) -> tuple[Deviation, ...]:
    """The deviations that are carried out in a round."""
    return tuple(one for one in deviations(agreement.server) if one.active(round_, agreement.attacker.watch.rounds))


def plan(
    agreement: Agreement, model: Weights, knows: Knowledge, round_: int, cohort: Sequence[int], look: Look
) -> Planned:
    """The weights that each client of a round is sent.

    `look` gives what a client sent back in earlier rounds. Raises RunError where a deviation does not fit the network
    or makes weights that are not its own.
    """
    watch = agreement.attacker.watch
    carried_out = active(agreement, round_)
    sent: dict[int, Weights] = dict.fromkeys(cohort, model)
    for place, one in enumerate(carried_out):
        made: dict[int, Weights] = {}
        for client, before in sent.items():
            first = next(iter(made), None)
            if first is not None and type(one).alike and sent[first] is before:
                made[client] = made[first]
                continue
            turn = Turn(
                client, round_, tuple(cohort), tuple(cohort)[: watch.clients], look(client) if one.looks_back else ()
            )
            rng = stream(agreement.hidden, "deviation", place, one.kind, round_)
            crafted = _made(one, before, knows, turn, rng)
            # clients that are sent equal weights are sent the same, which are packed and stored once
            made[client] = next((other for other in made.values() if _equal(other, crafted)), crafted)
        sent = made
    return Planned(model, sent, carried_out)


def _equal(one: Weights, other: Weights) -> bool:
    return all(one[name] is tensor or torch.equal(one[name], tensor) for name, tensor in other.items())


def _made(deviation: Deviation, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
    """The weights that a deviation makes, checked. Raises RunError naming it."""
    name = f"server.deviations: {deviation.kind}"
    try:
        made = deviation.craft(sent, knows, turn, rng)
    except ValueError as error:
        raise RunError(f"{name}: {error}; the server does not deviate so") from error
    shapes = {key: (tensor.shape, tensor.dtype) for key, tensor in sent.items()}
    if {key: (tensor.shape, tensor.dtype) for key, tensor in made.items()} != shapes:
        raise RunError(f"{name}: made weights that are not those of the network")
    return _weakened(made, sent, deviation)


def _weakened(crafted: Weights, honest: Weights, deviation: Deviation) -> Weights:
    """The crafted weights, as far and in as many units of the first layer as the deviation goes.

    All of them where it goes the whole way. The first two tensors are the first layer's weights and biases.
    """
    made = crafted
    if deviation.units < 1:
        made = part = dict(honest)
        for name in list(honest)[:2]:
            count = max(1, round(deviation.units * len(honest[name])))
            part[name] = torch.cat([crafted[name][:count], honest[name][count:]])
    if deviation.strength < 1:
        made = {name: torch.lerp(honest[name], tensor, deviation.strength) for name, tensor in made.items()}
    return made


def _parse(table: Mapping[str, Any]) -> Deviation:
    """The deviation that a table describes. Raises RunError where there is none of its kind."""
    kind = str(table.get("kind"))
    found = _classes().get(kind)
    if found is None:
        for entry in entry_points(group="fedinv.deviations", name=kind):
            found = entry.load()
    if found is None:
        raise RunError(f"server.deviations: there is no deviation {kind!r}")
    return found.model_validate(dict(table))


@cache
def _classes() -> Mapping[str, type[Deviation]]:
    """The class of each built-in deviation by its kind."""
    found: dict[str, type[Deviation]] = {}
    folder = Path(__file__).parent
    for path in folder.rglob("[!_]*.py"):
        module = import_module(f".{'.'.join(path.relative_to(folder).with_suffix('').parts)}", __name__)
        kind = path.stem.replace("_", "-")
        for _, one in inspect.getmembers(module, inspect.isclass):
            if issubclass(one, Deviation) and one.model_fields["kind"].default == kind:
                found[kind] = one
    return found
