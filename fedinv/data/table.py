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
    person: NDArray[np.int64] | None = None
    """Number of the person that each record is about, (n,), from 0; None where every record is a person of its own."""
    imputed: Mapping[str, NDArray[np.bool_]] | None = None
    """Fields (n,) that were missing and filled in, by column: no true values of the person; None where there are none.
    A column without an entry has no such field."""
    beside: Mapping[str, NDArray[Any]] | None = None
    """Values (n,), numbers or texts, of columns that are no fields of a record and may still partition: those that were
    dropped or identify; None where there are none."""
    notes: tuple[str, ...] = ()
    """Remarks for readers: missing values that were filled, rows that were dropped."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the records at these positions, in this order."""
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            labels=self.labels[rows],
            identities=_taken(self.identities, rows),
            person=None if self.person is None else self.person[rows],
            imputed=_taken(self.imputed, rows),
            beside=_taken(self.beside, rows),
        )


def _taken(columns: Mapping[str, NDArray[Any]] | None, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]] | None:
    return None if columns is None else {name: values[rows] for name, values in columns.items()}
