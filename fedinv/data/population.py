"""A scenario's records: each client's share, and the held-out rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv import plugins
from fedinv.blame import blamed
from fedinv.data.dataset import Columns, Dataset
from fedinv.data.holdout import held_out_rows
from fedinv.data.partition import ByColumn, Drawn
from fedinv.data.table import Table
from fedinv.data.table_checks import loaded
from fedinv.errors import RequestError
from fedinv.federation.streams import stream
from fedinv.task.schema import Schema

KEPT_CLIENTS = 1000
"""Number of clients whose drawn records are cached in memory."""

Draw = Callable[[int], tuple[Tensor, Tensor]]
"""Draws the records of a client, by its number: inputs (n, width) and labels (n,)."""


@dataclass(frozen=True)
class Population:
    """All people of a scenario, split into the clients' shares and held-out records that nobody trains on."""

    table: Table
    """Records with their labels and identities."""
    inputs: Tensor
    """Encoded records, float32 (people, width)."""
    labels: Tensor
    """Labels: int64 classes (people,), or standardized numbers, float32 (people,)."""
    shares: tuple[NDArray[np.int64], ...]
    """Rows of each client, disjoint; empty for a client whose records are drawn on demand and not in the table."""
    holdout: NDArray[np.int64]
    """Rows that no client holds: for measuring utility, and for the attacker's auxiliary records."""
    draw: Draw | None = None
    """Draws a client's records on demand; None where all records are in the table."""
    each: int = 0
    """Records per client that are drawn on demand; 0 where all records are in the table."""

    @property
    def schema(self) -> Schema:
        """Schema of the records."""
        return self.table.schema

    @cached_property
    def person(self) -> NDArray[np.int64]:
        """Number of the person that each row of the table is about, (people,); a person's rows are all at one client.

        Rows with the same number are one person in every count of people; without `data.person` each row has its own.
        """
        return np.arange(len(self.table)) if self.table.person is None else self.table.person

    @cached_property
    def imputed(self) -> NDArray[np.bool_]:
        """Fields (people, columns) that were missing and filled in: they hold nothing that is true of the person."""
        filled, none = self.table.imputed or {}, np.zeros(len(self.table), bool)
        return np.stack([filled.get(name, none) for name in self.schema.names], axis=1)

    @property
    def rows_per_person(self) -> int:
        """Largest number of rows of one person that a client holds: 1 without `data.person`."""
        held = np.concatenate([np.empty(0, np.int64), *self.shares])
        return int(np.bincount(self.person[held]).max()) if len(held) else 1

    def records(self, client: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (n, width) and labels (n,) of a client."""
        if self.draw is not None:
            return self.draw(client)
        rows = torch.from_numpy(self.shares[client])
        return self.inputs.index_select(0, rows), self.labels.index_select(0, rows)

    def held(self, client: int) -> int:
        """Number of records that a client holds."""
        return self.each or len(self.shares[client])

    @property
    def holds(self) -> dict[int, int]:
        """Number of records of each client, by client."""
        return {client: self.held(client) for client in range(len(self.shares))}


@lru_cache(maxsize=2)
def population(data: Dataset, seed: int, clients: int, records_per_client: int | None) -> Population:
    """Load the data, hold records out, and partition the rest. Pure in its arguments; cached, as each client calls it.

    Raises RequestError when the data are unusable or cannot be split over so many clients, PluginError when the
    source's code fails or its table does not fit its schema.
    """
    table = loaded(data, seed)
    if isinstance(data.partition, Drawn):
        return _drawn(data, data.partition, table, seed, clients, records_per_client)
    # people are held out and spread, by their first rows; without data.person each row is a person
    first, rows_of = _people(table)
    order = stream(seed, "holdout").permutation(len(first))
    kept_out = int(round(data.holdout * len(first)))
    apart = held_out_rows(order, table.labels[first], kept_out, classes=table.schema.target is None)
    rest = np.setdiff1d(np.arange(len(first)), apart)
    if clients > len(rest):
        what = "records" if table.person is None else "people"
        more = " or raise data.records" if _may_grow(data) else ", or take a table of more"
        raise RequestError(
            f"federation.clients: {clients} clients cannot share {len(rest)} {what} "
            f"({len(first)} less {kept_out} held out): use at most {len(rest)} clients{more}"
        )
    people = table.take(first[rest])
    parts = data.partition.split(people, clients, stream(seed, "partition"))
    shares = tuple(rows_of(rest[part]) for part in parts)
    return Population(
        table=replace(
            table, notes=(*table.notes, *_spread(data, people, clients), *_unlimited(shares, records_per_client))
        ),
        inputs=table.schema.encode(table.columns),
        labels=table.schema.encode_labels(table.labels),
        shares=tuple(share[:records_per_client] for share in shares),
        holdout=np.sort(rows_of(apart)),
    )


def _people(table: Table) -> tuple[NDArray[np.int64], Callable[[NDArray[np.int64]], NDArray[np.int64]]]:
    """The first row of each person (people,), and the function that returns all rows of people, person by person."""
    if table.person is None:
        return np.arange(len(table)), lambda people: people
    _, first, number, sizes = np.unique(table.person, return_index=True, return_inverse=True, return_counts=True)
    by_person = np.split(np.argsort(number, kind="stable"), np.cumsum(sizes)[:-1])
    return first, lambda people: np.concatenate([np.empty(0, np.int64), *(by_person[one] for one in people)])


def _spread(data: Dataset, people: Table, clients: int) -> list[str]:
    """A note on how the records of a partition by column were assigned."""
    return data.partition.said(people, clients) if isinstance(data.partition, ByColumn) else []


def _unlimited(shares: Sequence[NDArray[np.int64]], limit: int | None) -> list[str]:
    """A note where the limit on a client's records limits nobody."""
    largest = max(len(share) for share in shares)
    if limit is None or limit <= largest:
        return []
    return [f"training.records_per_client = {limit} limits nobody: the largest client holds {largest} records"]


def _may_grow(data: Dataset) -> bool:
    """Whether data.records can be raised: a source that makes its records, or a table of which a part is taken."""
    return type(data).draw is not Dataset.draw or getattr(data, "records", None) is not None


def _drawn(
    data: Dataset, partition: Drawn, table: Table, seed: int, clients: int, records_per_client: int | None
) -> Population:
    """A population whose table holds the held-out records alone; the clients' records are drawn on demand."""
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
    """Add the drawn records of these clients to the population's table; unchanged where none are drawn on demand."""
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
