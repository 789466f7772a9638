"""A table of people's records."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedinv.task.schema import Schema


@dataclass(frozen=True)
class Table:
    """Records with their labels, and the identities of the people, which are never trained on."""

    schema: Schema
    """Columns of the records and their published statistics."""
    columns: Mapping[str, NDArray[Any]]
    """Values (n,) or pixels (n, pixels) by column; the schema can encode all of them."""
    labels: NDArray[Any]
    """Labels (n,): int64 positions in schema.classes, or float64 numbers in the unit of schema.target."""
    identities: Mapping[str, NDArray[Any]] | None = None
    """Identities of the people, such as name, birth date and postcode, by column; None where the source has none."""
    notes: tuple[str, ...] = ()
    """Remarks for readers: missing values that were filled, rows that were dropped."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the records at these positions, in this order."""
        people = self.identities
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            labels=self.labels[rows],
            identities=None if people is None else {name: values[rows] for name, values in people.items()},
        )
