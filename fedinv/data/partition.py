"""How the records are spread over the clients.

The four usual ways are written out here, since flwr-datasets, which offers them too, asks a lot for them: installing
it grows a fresh environment from 26 to 528 MB and 48 packages, importing it takes 2.4 s, and its partitioners want the
table as a Hugging Face Dataset.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fedinv.data.table import Table
from fedinv.errors import RequestError, nearest
from fedinv.task.columns import Continuous, Image

Rows = NDArray[np.int64]


class Iid(BaseModel):
    """Equal shares (to within one record) drawn at random."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["iid"] = "iid"

    def split(self, table: Table, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
        """Return each client's rows, disjoint, none empty. Raises RequestError for more clients than records."""
        _enough(table, clients)
        return tuple(np.array_split(rng.permutation(len(table)), clients))


class Dirichlet(BaseModel):
    """Skewed labels: each class is dealt out in proportions drawn from a Dirichlet (Hsu, Qi and Brown 2019, sec. 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dirichlet"]
    alpha: float = Field(gt=0, allow_inf_nan=False)
    """Concentration: 0.1 leaves most clients with one class, 100 is nearly iid."""

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
    """Each client gets one value of a column, or a share of it: hospitals by ward, banks by purpose.

    Clients are apportioned to the values by how common they are; with more values than clients, a client gets several.
    A column of numbers is cut into one range a client, at its quantiles.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["by-column"]
    column: str
    """A column of the table, or its label."""

    def split(self, table: Table, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
        """Return each client's rows, disjoint, none empty.

        Raises RequestError for a column that the table does not have and for more clients than records.
        """
        _enough(table, clients)
        schema = table.schema
        order = rng.permutation(len(table))
        if self.column == schema.label:
            if schema.target is not None:
                return _ranges(table.labels, order, clients, rng)
            codes = table.labels
        elif self.column not in schema.names:
            known = [*schema.names, schema.label]
            raise RequestError(f"data.partition.column: no column {self.column!r}{nearest(self.column, known)}")
        else:
            column = schema.columns[schema.names.index(self.column)]
            values = table.columns[self.column]
            if isinstance(column, Image):
                raise RequestError(f"data.partition.column: {self.column!r} holds images, use {schema.label!r}")
            if isinstance(column, Continuous):
                return _ranges(values, order, clients, rng)
            codes = np.argmax(column.encode(values), axis=1)
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


class Quantity(BaseModel):
    """Skewed sizes: the k-th largest client holds a share proportional to k to the power of minus `exponent`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["quantity"]
    exponent: float = Field(default=1.0, ge=0, le=10)
    """0 is equal sizes, 1 is Zipf's law."""

    def split(self, table: Table, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
        """Return each client's rows, disjoint, none empty. Raises RequestError for more clients than records."""
        _enough(table, clients)
        weights = rng.permutation(np.arange(1, clients + 1, dtype=np.float64) ** -self.exponent)
        owner = rng.permutation(_deal(len(table), weights / weights.sum()))
        return _shares(owner, clients, rng)


class Drawn(BaseModel):
    """Each client's records are drawn for it alone, when it is first asked for them: for federations of any size.

    Only for sources that can draw records (hospital, bank). `data.records` people are drawn beside, and all held out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drawn"]
    each: int = Field(default=64, gt=0)
    """Records of a client."""


Partition = Annotated[Iid | Dirichlet | ByColumn | Quantity | Drawn, Field(discriminator="kind")]


def _enough(table: Table, clients: int) -> None:
    if not 1 <= clients <= len(table):
        raise RequestError(
            f"federation.clients: {len(table)} records cannot be spread over {clients} clients, "
            f"use at most {len(table)} clients or raise data.records"
        )


def _ranges(values: NDArray[Any], order: Rows, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
    """Each client's rows: one range of the values (n,), ties in the order (n,) given."""
    ranked = order[np.argsort(np.asarray(values, np.float64)[order], kind="stable")]
    return tuple(rng.permutation(part) for part in np.array_split(ranked, clients))


def _proportions(alpha: float, clients: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(clients,) a Dirichlet draw; where alpha is so small that every gamma draw underflows, one client's alone."""
    drawn: NDArray[np.float64] = rng.standard_gamma(alpha, clients)
    if not drawn.any():
        drawn[rng.integers(clients)] = 1.0
    drawn /= drawn.max()
    drawn /= drawn.sum()
    return drawn


def _deal(count: int, proportions: NDArray[np.float64]) -> Rows:
    """(count,) the owner of each of `count` records dealt out in these proportions, in order of the owners."""
    ends = np.floor(np.cumsum(proportions) * count + 0.5)
    return np.minimum(np.searchsorted(ends, np.arange(count), side="right"), len(proportions) - 1)


def _apportion(sizes: Sequence[int], clients: int) -> list[int]:
    """Clients a group: one each, and every further one where the records a client are most; never more than records."""
    given = [1] * len(sizes)
    for _ in range(clients - len(sizes)):
        crowding = [size / share if share < size else 0.0 for size, share in zip(sizes, given, strict=True)]
        given[int(np.argmax(crowding))] += 1
    return given


def _shares(owner: Rows, clients: int, rng: np.random.Generator) -> tuple[Rows, ...]:
    """Each client's rows in random order; one left with none takes a random record of the largest."""
    sizes = np.bincount(owner, minlength=clients)
    for client in np.flatnonzero(sizes == 0):
        largest = int(np.argmax(sizes))
        moved = rng.choice(np.flatnonzero(owner == largest))
        owner[moved] = client
        sizes[largest] -= 1
        sizes[client] += 1
    return tuple(rng.permutation(np.flatnonzero(owner == client)) for client in range(clients))
