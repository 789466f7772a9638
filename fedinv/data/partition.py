"""Partitions of the records over the clients.

The four usual ones are written out here, because flwr-datasets, which offers them too, is costly: installing
it grows a fresh environment from 26 to 528 MB and 48 packages, importing it takes 2.4 s, and its partitioners want the
table as a Hugging Face Dataset.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fedinv.data.table import Table
from fedinv.errors import RequestError, nearest
from fedinv.task.columns import Image, Tokens

MOST_GROUPS = 20
"""Different whole numbers, at most, that a partition by column keeps together whatever the number of clients."""
IDENTIFIER = re.compile(
    r"(^|[^a-z])(id|ids|uid|uuid|guid|key|mrn|ssn|pid|nr|no|number|nummer|index|idx)$|[a-z]I[dD]$", re.ASCII
)
"""Names of columns that number something, such as patient_id and patientId."""

Rows = NDArray[np.int64]
"""Positions of records in the table, int64 (n,)."""


def names_identifier(name: str) -> bool:
    """Whether a column's name says that it numbers something, such as people or hospitals."""
    return bool(IDENTIFIER.search(name) or IDENTIFIER.search(name.lower()))


class Iid(BaseModel):
    """Equal shares (to within one record) drawn at random."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["iid"] = "iid"
    """Selects this partition, and with it the keys that the table may have."""

    def split(self, table: Table, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
        """Return each client's rows, disjoint, none empty. Raises RequestError for more clients than records."""
        _enough(table, clients)
        return tuple(np.array_split(rng.permutation(len(table)), clients))


class Dirichlet(BaseModel):
    """Skewed labels: each class is dealt out in proportions drawn from a Dirichlet (Hsu, Qi and Brown 2019, sec. 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dirichlet"]
    """Selects this partition, and with it the keys that the table may have."""
    alpha: float = Field(gt=0, allow_inf_nan=False)
    """Concentration of the Dirichlet distribution: 0.1 leaves most clients with one class, 100 is nearly iid."""

    def split(self, table: Table, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
        """Return each client's rows, disjoint, none empty.

        Raises RequestError for a label that has no classes and for more clients than records.
        """
        _enough(table, clients)
        if table.schema.target is not None:
            raise RequestError(
                f"data.partition.kind: dirichlet deals out classes, and the label {table.schema.label!r} is a number: "
                f'use {{ kind = "by-column", column = "{table.schema.label}" }}, quantity or iid'
            )
        owner = np.empty(len(table), np.int64)
        for label in range(len(table.schema.classes)):
            rows = rng.permutation(np.flatnonzero(table.labels == label))
            owner[rows] = _deal(len(rows), _proportions(self.alpha, clients, rng))
        return _shares(owner, clients, rng)


class ByColumn(BaseModel):
    """Each client gets the records of one value of a column, or a part of them: hospitals by ward, banks by purpose.

    Values get clients in proportion to their frequency; with more values than clients, a client gets several values.
    A column of numbers is divided at its quantiles into one range per client, unless it numbers something: hospitals.
    The column may also be one that was dropped or identifies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["by-column"]
    """Selects this partition, and with it the keys that the table may have."""
    column: str
    """Name of the column by which records are assigned: one of the table's, its label, or one that was left out."""
    by: Literal["value", "range"] | None = None
    """Assignment of numbers: equal ones stay together ("value"), or a client gets a range of them ("range"). Default:
    by value for whole numbers of at most 20 different values, or as many as there are clients, or in a column that is
    named as an identifier; else ranges."""

    def split(self, table: Table, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
        """Return each client's rows, disjoint, none empty.

        Raises RequestError for a column that the table does not have and for more clients than records.
        """
        _enough(table, clients)
        order = rng.permutation(len(table))
        values = self._values(table)
        if values.dtype.kind in "fiu" and not self._whole(values, clients):
            return _ranges(values, order, clients, rng)
        codes = np.unique(values, return_inverse=True)[1].ravel()
        groups = [rows for code in range(int(codes.max()) + 1) if len(rows := order[codes[order] == code])]
        owner = np.empty(len(table), np.int64)
        if len(groups) >= clients:
            held = np.zeros(clients)
            for rows in sorted(groups, key=len, reverse=True):
                owner[rows] = np.argmin(held)
                held[np.argmin(held)] += len(rows)
        else:
            first = 0
            for rows, share in zip(groups, _apportion([len(rows) for rows in groups], clients), strict=True):
                owner[rows] = first + np.arange(len(rows)) % share
                first += share
        return _shares(owner, clients, rng)

    def said(self, table: Table, clients: int) -> list[str]:
        """A note on how numbers were assigned; empty for texts."""
        values = self._values(table)
        if values.dtype.kind not in "fiu" or self.by is not None or values is table.labels:
            return []
        whole = self._whole(values, clients)
        how = "by its values" if whole else "by ranges of its numbers"
        other = "range" if whole else "value"
        return [f'{self.column}: clients hold records {how} (data.partition.by = "{other}" for the other way)']

    def _values(self, table: Table) -> NDArray[Any]:
        """Numbers or texts (n,) by which records are assigned; a label's classes are texts."""
        schema, beside = table.schema, {**(table.identities or {}), **(table.beside or {})}
        if self.column == schema.label:
            return table.labels if schema.target is not None else np.asarray(schema.classes, object)[table.labels]
        if self.column in schema.names:
            if isinstance(schema.columns[schema.names.index(self.column)], Image | Tokens):
                held = "texts" if schema.image is None else "images"
                raise RequestError(f"data.partition.column: {self.column!r} holds {held}, use {schema.label!r}")
            return table.columns[self.column]
        if self.column in beside:
            return beside[self.column]
        known = [*schema.names, schema.label, *beside]
        raise RequestError(f"data.partition.column: no column {self.column!r}{nearest(self.column, known)}")

    def _whole(self, values: NDArray[Any], clients: int) -> bool:
        """Whether records of equal numbers stay together."""
        if self.by is not None:
            return self.by == "value"
        different = np.unique(values)
        if not np.array_equal(different, np.round(different)):
            return False
        return len(different) <= max(clients, MOST_GROUPS) or names_identifier(self.column)


class Quantity(BaseModel):
    """Skewed sizes: the k-th largest client holds a share proportional to k to the power of minus `exponent`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["quantity"]
    """Selects this partition, and with it the keys that the table may have."""
    exponent: float = Field(default=1.0, ge=0, le=10)
    """Exponent of the power law of sizes: 0 is equal sizes, 1 is Zipf's law."""

    def split(self, table: Table, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
        """Return each client's rows, disjoint, none empty. Raises RequestError for more clients than records."""
        _enough(table, clients)
        weights = rng.permutation(np.arange(1, clients + 1, dtype=np.float64) ** -self.exponent)
        owner = rng.permutation(_deal(len(table), weights / weights.sum()))
        return _shares(owner, clients, rng)


class Drawn(BaseModel):
    """Each client's records are drawn when they are first needed, so that a federation may be of any size.

    Only for sources that can draw records (hospital, bank). The `data.records` people of the table are all held out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drawn"]
    """Selects this partition, and with it the keys that the table may have."""
    each: int = Field(default=64, gt=0)
    """Number of records that each client holds."""


Partition = Annotated[Iid | Dirichlet | ByColumn | Quantity | Drawn, Field(discriminator="kind")]


def _enough(table: Table, clients: int) -> None:
    if not 1 <= clients <= len(table):
        raise RequestError(
            f"federation.clients: {len(table)} records cannot be spread over {clients} clients, "
            f"use at most {len(table)} clients"
        )


def _ranges(values: NDArray[Any], order: Rows, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
    """Rows of each client: one range of the values (n,), ties broken by their place in `order` (n,)."""
    ranked = order[np.argsort(np.asarray(values, np.float64)[order], kind="stable")]
    return tuple(rng.permutation(part) for part in np.array_split(ranked, clients))


def _proportions(alpha: float, clients: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw shares (clients,) from a Dirichlet; if alpha is so small that all draws underflow, one client gets all."""
    drawn: NDArray[np.float64] = rng.standard_gamma(alpha, clients)
    if not drawn.any():
        drawn[rng.integers(clients)] = 1.0
    drawn /= drawn.max()
    drawn /= drawn.sum()
    return drawn


def _deal(count: int, proportions: NDArray[np.float64]) -> Rows:
    """Owners (count,) of records that are assigned in these proportions, in order of the owners."""
    ends = np.floor(np.cumsum(proportions) * count + 0.5)
    return np.minimum(np.searchsorted(ends, np.arange(count), side="right"), len(proportions) - 1)


def _apportion(sizes: Sequence[int], clients: int) -> list[int]:
    """Number of clients per group: one each, further ones where records per client are most; none is left empty."""
    given = [1] * len(sizes)
    for _ in range(clients - len(sizes)):
        crowding = [size / share if share < size else 0.0 for size, share in zip(sizes, given, strict=True)]
        given[int(np.argmax(crowding))] += 1
    return given


def _shares(owner: Rows, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
    """Rows of each client in random order; a client without records takes a random one of the largest client."""
    sizes = np.bincount(owner, minlength=clients)
    for client in np.flatnonzero(sizes == 0):
        largest = int(np.argmax(sizes))
        moved = rng.choice(np.flatnonzero(owner == largest))
        owner[moved] = client
        sizes[largest] -= 1
        sizes[client] += 1
    return tuple(rng.permutation(np.flatnonzero(owner == client)) for client in range(clients))
