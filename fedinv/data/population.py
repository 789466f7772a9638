"""Turns a scenario's data into what each party holds: every client its share, the judge everything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv import plugins
from fedinv.blame import blamed
from fedinv.data.dataset import Columns, Dataset
from fedinv.data.partition import Drawn
from fedinv.data.table import Table
from fedinv.data.table_checks import loaded
from fedinv.errors import RequestError
from fedinv.federation.streams import stream
from fedinv.task.schema import Schema

KEPT_CLIENTS = 1000
"""Clients whose drawn records are kept in memory."""

Draw = Callable[[int], tuple[Tensor, Tensor]]
"""A client's inputs (n, width) and labels (n,), drawn for it alone."""


@dataclass(frozen=True)
class Population:
    """All people of a scenario, split into the clients' shares and a hold-out that nobody trains on."""

    table: Table
    inputs: Tensor
    """float32 (people, width), encoded."""
    labels: Tensor
    """int64 (people,), or float32 standardized targets."""
    shares: tuple[NDArray[np.int64], ...]
    """Rows of each client, disjoint; empty for one whose records are drawn when asked for and not in the table."""
    holdout: NDArray[np.int64]
    """Rows kept for measuring utility."""
    draw: Draw | None = None
    """Where records are drawn when asked for."""
    each: int = 0
    """How many a client then has."""

    @property
    def schema(self) -> Schema:
        """Of all records."""
        return self.table.schema

    def records(self, client: int) -> tuple[Tensor, Tensor]:
        """Inputs (n, width) and labels (n,) of a client."""
        if self.draw is not None:
            return self.draw(client)
        rows = torch.from_numpy(self.shares[client])
        return self.inputs.index_select(0, rows), self.labels.index_select(0, rows)

    def held(self, client: int) -> int:
        """How many records a client has."""
        return self.each or len(self.shares[client])

    @property
    def holds(self) -> dict[int, int]:
        """How many records each client has."""
        return {client: self.held(client) for client in range(len(self.shares))}


@lru_cache(maxsize=2)
def population(data: Dataset, seed: int, clients: int, records_per_client: int | None) -> Population:
    """Load, hold out, partition. Pure in its arguments, and cached because every client of a process asks for it.

    Raises RequestError when the data are unusable or cannot be split over so many clients, PluginError when the
    source's code fails or its table does not fit its schema.
    """
    table = loaded(data, seed)
    if isinstance(data.partition, Drawn):
        return _drawn(data, data.partition, table, seed, clients, records_per_client)
    order = stream(seed, "holdout").permutation(len(table))
    kept_out = int(round(data.holdout * len(table)))
    holdout, rest = np.sort(order[:kept_out]), np.sort(order[kept_out:])
    if clients > len(rest):
        raise RequestError(
            f"federation.clients: {clients} clients cannot share {len(rest)} records "
            f"({len(table)} less {kept_out} held out): use at most {len(rest)} clients or raise data.records"
        )
    parts = data.partition.split(table.take(rest), clients, stream(seed, "partition"))
    return Population(
        table=table,
        inputs=table.schema.encode(table.columns),
        labels=table.schema.encode_labels(table.labels),
        shares=tuple(rest[part][:records_per_client] for part in parts),
        holdout=holdout,
    )


def _drawn(
    data: Dataset, partition: Drawn, table: Table, seed: int, clients: int, records_per_client: int | None
) -> Population:
    """A population of which nothing but the hold-out is there; the clients' records are drawn when asked for."""
    if type(data).draw is Dataset.draw:
        drawing = [kind for kind, source in plugins.loaded("datasets").items() if source.draw is not Dataset.draw]
        raise RequestError(
            f"data.partition.kind: 'drawn' needs a source that draws records, and {data.source!r} holds a table: "
            f"use {' or '.join(drawing)}, or another kind"
        )
    each = min(partition.each, records_per_client or partition.each)

    @lru_cache(maxsize=KEPT_CLIENTS)
    def draw(client: int) -> tuple[Tensor, Tensor]:
        columns, labels = _of(data, seed, client, each)
        return table.schema.encode(columns), table.schema.encode_labels(labels)

    return Population(
        table=table,
        inputs=table.schema.encode(table.columns),
        labels=table.schema.encode_labels(table.labels),
        shares=(np.empty(0, np.int64),) * clients,
        holdout=np.arange(len(table)),
        draw=draw,
        each=each,
    )


def joined(people: Population, data: Dataset, seed: int, clients: Sequence[int]) -> Population:
    """The population with the drawn records of these clients in its table; as it is where none are drawn."""
    if people.draw is None:
        return people
    drawn = [_of(data, seed, client, people.each) for client in clients]
    columns = {name: np.concatenate([c[name] for c, _ in drawn]) for name in people.table.columns}
    labels = np.concatenate([labels for _, labels in drawn])
    names = data.name(stream(seed, "drawn", "people"), columns)
    known = people.table.identities
    before, shares = len(people.table), list(people.shares)
    for i, client in enumerate(clients):
        shares[client] = before + np.arange(i * people.each, (i + 1) * people.each)
    note = f"re-identified among {before + len(labels)} people: those held out and those of the watched clients"
    table = replace(
        people.table,
        columns=_with(people.table.columns, columns),
        labels=np.concatenate([people.table.labels, labels]),
        identities=None if known is None or names is None else _with(known, names),
        notes=(*people.table.notes, note),
    )
    return replace(
        people,
        table=table,
        inputs=table.schema.encode(table.columns),
        labels=table.schema.encode_labels(table.labels),
        shares=tuple(shares),
    )


def _of(data: Dataset, seed: int, client: int, count: int) -> tuple[Columns, NDArray[np.int64]]:
    with blamed(f"data source {data.source!r}", type(data), RequestError):
        return data.draw(stream(seed, "drawn", client), count)


def _with(columns: Columns, more: Columns) -> Columns:
    return {name: np.concatenate([values, more[name]]) for name, values in columns.items()}
