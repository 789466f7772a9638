"""The wiretap's files: what the server sent and received, exactly as it crossed the wire.

observations/round-001-sent.safetensors            the weights that were sent in a watched round
observations/round-001-sent-01.safetensors         others that a malicious server sent to some of its clients
observations/round-001-client-0003.safetensors     one client's update
observations/round-001-sum.safetensors             the sum of updates that secure aggregation lets the server use
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Exchange, Observation
from fedinv.federation import ring
from fedinv.storage import files
from fedinv.strict import Strict


def write_sent(folder: Path, round_: int, weights: Mapping[str, Tensor]) -> None:
    """Store the weights that were sent in a watched round; where clients got different ones, the global model."""
    files.write_tensors(folder / f"round-{round_:03}-sent.safetensors", weights, {"round": round_})


def write_sent_to(folder: Path, round_: int, place: int, clients: Sequence[int], weights: Mapping[str, Tensor]) -> None:
    """Store the weights that some clients of a watched round were sent, number `place` of its different ones."""
    facts = {"round": round_, "clients": list(clients)}
    files.write_tensors(folder / f"round-{round_:03}-sent-{place:02}.safetensors", weights, facts)


def write_update(folder: Path, round_: int, clients: Sequence[int], records: int, update: Mapping[str, Tensor]) -> None:
    """Store one client's update, or the sum over several, with the number of records that it covers."""
    name = f"client-{clients[0]:04}" if len(clients) == 1 else "sum"
    facts = {"round": round_, "clients": list(clients), "records": records}
    files.write_tensors(folder / f"round-{round_:03}-{name}.safetensors", update, facts)


def read_sent(folder: Path, round_: int) -> dict[str, Tensor]:
    """The global model of a watched round. Raises RunError naming a file that is damaged or missing."""
    return files.read_tensors(folder / f"round-{round_:03}-sent.safetensors")[0]


class _Sent(Strict):
    """Facts of a file with the weights that were sent."""

    round: int = Field(gt=0, lt=2**31)


class _SentTo(_Sent):
    """Facts of a file with the weights that were sent to some clients."""

    clients: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(min_length=1)


class _Received(_SentTo):
    """Facts of a file with an update."""

    records: int = Field(gt=0, lt=2**53)


def read(folder: Path) -> tuple[Observation, ...]:
    """Read all observations, sorted by round, then clients by number, then the round's sum.

    Each holds the earlier watched rounds of its client too. Raises RunError naming a file that is damaged.
    """
    sent: dict[int, dict[str, Tensor]] = {}
    seen: dict[tuple[int, ...], list[Exchange]] = {}
    found: list[Observation] = []
    for path in sorted(folder.glob("round-*-sent.safetensors")):
        weights, told = files.read_checked(path, _Sent)
        sent[told.round] = weights
    sent_to = _sent_to(folder, sent)
    for path in sorted(folder.glob("round-*.safetensors")):
        if "-sent" in path.name:
            continue
        update, facts = files.read_checked(path, _Received)
        if facts.round not in sent:
            raise files.damaged(path, ValueError(f"what was sent in its round {facts.round} is missing"))
        check_weights(path, update, {name: tuple(tensor.shape) for name, tensor in sent[facts.round].items()})
        received = ring.from_ring(update, facts.records) if ring.is_ring(update) else update
        key = facts.clients if len(facts.clients) == 1 else ()
        own, single = sent_to.get(facts.round, {}), len(facts.clients) == 1
        weights = own.get(facts.clients[0], sent[facts.round]) if single else sent[facts.round]
        others = {} if single or not own else {c: own.get(c, sent[facts.round]) for c in facts.clients}
        seen.setdefault(key, []).append(Exchange(facts.round, weights, received, facts.records, others))
        found.append(Observation(facts.clients, tuple(seen[key])))
    return tuple(sorted(found, key=lambda o: (o.last.round, len(o.clients) > 1, o.clients)))


def _sent_to(folder: Path, sent: Mapping[int, Mapping[str, Tensor]]) -> dict[int, dict[int, dict[str, Tensor]]]:
    """The weights of clients that were sent their own, by round and client."""
    found: dict[int, dict[int, dict[str, Tensor]]] = {}
    for path in sorted(folder.glob("round-*-sent-*.safetensors")):
        weights, facts = files.read_checked(path, _SentTo)
        if facts.round not in sent:
            raise files.damaged(path, ValueError(f"what was sent in its round {facts.round} is missing"))
        check_weights(path, weights, {name: tuple(tensor.shape) for name, tensor in sent[facts.round].items()})
        found.setdefault(facts.round, {}).update(dict.fromkeys(facts.clients, weights))
    return found


def check_weights(path: Path, weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise RunError unless a file's tensors have the network's names and shapes, and are numbers that fit it."""
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != dict(shapes):
        raise files.damaged(path, ValueError("its tensors are not those of the network"))
    if not ring.is_ring(weights) and any(tensor.dtype != torch.float32 for tensor in weights.values()):
        raise files.damaged(path, ValueError("its tensors are not float32"))


def trained(weights: Mapping[str, Tensor], round_: int, clients: int, records: int) -> Observation:
    """The trained model after the last round as an observation of all clients, with no update received."""
    return Observation(tuple(range(clients)), (Exchange(round_, weights, {}, records),))
