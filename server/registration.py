"""Which node is which client: all are asked before the first round, and whoever answers badly takes no part."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedinv.errors import RunError, plain
from fedinv.federation import wire
from fedinv.task.schema import Schema

from .messaging import ask
from .wiretap import first_line

REGISTRATION_SECONDS = 300.0
"""Seconds to wait for clients' answers, beside ten for each of them."""
QUIET_SECONDS = 60.0
"""Seconds without a new node after which nobody else is expected, where there are as many nodes as clients."""


@dataclass(frozen=True)
class Registered:
    """The clients that take part."""

    nodes: dict[int, int]
    """Flower's node id of each client that takes part."""
    absent: Mapping[int, str]
    """Reason why each other client takes no part, a phrase whose subject is the client."""
    schema: Schema
    """Data dictionary that those who take part agree on."""


@dataclass(frozen=True)
class _Answer:
    """A node's answer that can be used."""

    partition: int
    """Number of the client that the node says it is, 0 or more."""
    schema: str
    """Data dictionary of its records, JSON."""


def register(grid: Grid, clients: int) -> Registered:
    """Ask all nodes which client they are, until each client was found or nobody else is expected.

    Nodes of further partitions are ignored: a deployment may have more than a scenario needs. Of two nodes that say
    they are the same client, the first is believed; a client whose data dictionary is not that of most is left out.
    Raises RunError where nodes are missing, none can take part, or no dictionary is that of most.
    """
    deadline, newest = time.monotonic() + patience(clients), time.monotonic()
    found: dict[int, tuple[int, str]] = {}
    refused: list[str] = []
    met: set[int] = set()
    while len(found) < clients and len(found) + len(refused) < clients:
        new = [node for node in grid.get_node_ids() if node not in met]
        met |= set(new)
        newest = time.monotonic() if new else newest
        for reply in asked(grid, "query.register", new):
            answer = _answer(reply)
            if isinstance(answer, str):
                refused.append(answer)
            elif answer.partition in found:
                refused.append(f"two nodes say that they are client {answer.partition}: give each its own partition-id")
            elif answer.partition < clients:
                found[answer.partition] = (reply.metadata.src_node_id, answer.schema)
        if len(found) + len(refused) < clients:
            now = time.monotonic()
            if len(met) >= clients and now - newest > QUIET_SECONDS:
                break
            if now > deadline:
                missing = next(client for client in range(clients) if client not in found)
                raise RunError(f"only {len(found)} of {clients} clients appeared: client {missing} is missing")
            time.sleep(0.2)
    if not found:
        raise RunError(f"a client cannot take part: {(refused or ['no node says that it is one'])[0]}")
    agreed = _agreed([schema for _, schema in found.values()])
    why = f"takes no part: {plain('; '.join(dict.fromkeys(refused)) or 'no node says that it is this client')}"
    absent = {client: why for client in range(clients) if client not in found}
    absent |= {
        client: "takes no part: its data dictionary is not that of the others"
        for client, (_, schema) in found.items()
        if schema != agreed
    }
    nodes = {client: node for client, (node, _) in found.items() if client not in absent}
    return Registered(nodes, absent, _schema(agreed))


def asked(grid: Grid, what: str, nodes: list[int]) -> list[Message]:
    """The nodes' replies to a question without content."""
    messages = [Message(RecordDict(), node, what, group_id=what) for node in nodes]
    return ask(grid, messages, patience(len(nodes)))


def patience(clients: int) -> float:
    """Seconds that so many clients may take to answer a question.

    Each may have to start a process first, which many on few or busy cores do one after another.
    """
    return REGISTRATION_SECONDS + 10.0 * clients


def _answer(reply: Message) -> _Answer | str:
    """A node's answer, or what is wrong with it."""
    if reply.has_error():
        return first_line(reply.error.reason)
    try:
        node = wire.record(reply.content, "node", ConfigRecord)
        partition, schema = node["partition-id"], node["schema"]
        if not isinstance(schema, str):
            raise TypeError("schema is no text")
        _schema(schema)
    except Exception as error:  # a node may send anything
        return f"answered what cannot be read ({plain(type(error).__name__)})"
    if isinstance(partition, bool) or not isinstance(partition, int) or partition < 0:
        return plain(f"says that it is client {partition!r}: a partition-id is a whole number from 0")
    return _Answer(partition, schema)


def _agreed(schemas: list[str]) -> str:
    """The data dictionary of more clients than any other. Raises RunError where there is none."""
    ranked = Counter(schemas).most_common(2)
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        raise RunError("the clients do not agree on the schema of their records")
    return ranked[0][0]


@lru_cache(maxsize=4)
def _schema(text: str) -> Schema:
    return Schema.model_validate_json(text)
