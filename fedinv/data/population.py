"""Turns a scenario's data into what each party holds: every client its share, the judge everything."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.errors import RequestError
from fedinv.schema import Schema
from fedinv.streams import stream


@dataclass(frozen=True)
class Population:
    """All people of a scenario, split into the clients' shares and a hold-out that nobody trains on."""

    table: Table
    inputs: Tensor
    """float32 (people, width), encoded."""
    labels: Tensor
    """int64 (people,), or float32 standardized targets."""
    shares: tuple[NDArray[np.int64], ...]
    """Rows of each client, disjoint."""
    holdout: NDArray[np.int64]
    """Rows kept for measuring utility."""

    @property
    def schema(self) -> Schema:
        """Of all records."""
        return self.table.schema

    def records(self, client: int) -> tuple[Tensor, Tensor]:
        """Inputs (n, width) and labels (n,) of a client."""
        rows = torch.from_numpy(self.shares[client])
        return self.inputs.index_select(0, rows), self.labels.index_select(0, rows)

    def held(self, client: int) -> int:
        """How many records a client has."""
        return len(self.shares[client])

    @property
    def holds(self) -> dict[int, int]:
        """How many records each client has."""
        return {client: len(share) for client, share in enumerate(self.shares)}


@lru_cache(maxsize=2)
def population(data: Dataset, seed: int, clients: int, records_per_client: int | None) -> Population:
    """Load, hold out, partition. Pure in its arguments, and cached because every client of a process asks for it.

    Raises RequestError when the data are unusable or cannot be split over so many clients.
    """
    table = data.load(seed)
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
