"""A table of people's records."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedinv.task.schema import Schema


@dataclass(frozen=True)
class Table:
    """Records with their labels, and beside them, never trained on, who the people are."""

    schema: Schema
    columns: Mapping[str, NDArray[Any]]
    """The records column by column, each value one that the schema can encode."""
    labels: NDArray[Any]
    """(n,) int64 index into schema.classes, or float64 numbers in the unit of schema.target."""
    identities: Mapping[str, NDArray[Any]] | None = None
    """Name, birth date, postcode ... of each person, column by column; None where the source has none."""
    notes: tuple[str, ...] = ()
    """What was done to the data that a reader must know: missing values filled, rows dropped."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """The records at these positions, in this order."""
        people = self.identities
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            labels=self.labels[rows],
            identities=None if people is None else {name: values[rows] for name, values in people.items()},
        )
