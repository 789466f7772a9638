"""The base class of every data source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fedinv.data.partition import Iid, Partition
from fedinv.data.table import Table

Columns = Mapping[str, NDArray[Any]]
"""Values (n,) by column name."""


class Dataset(BaseModel):
    """Base of a data source: a frozen model whose fields are the keys of the scenario's [data], and `load`.

    A built-in source is a file in fedinv/data/sources/ named after it; others come by the entry point group
    ``fedinv.datasets``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: ClassVar[str] = "records"
    """Word for the records in the verdict."""
    parties: ClassVar[str] = "clients"
    """Word for the clients in the verdict."""

    outsiders_know: ClassVar[tuple[str, ...]] = ()
    """Columns that outsiders know beside people's names unless `quasi_identifiers` says otherwise."""
    images: ClassVar[bool] = False
    """True: the records are images, which convolutional models can read; False: they are rows of a table."""
    texts: ClassVar[bool] = False
    """True: the records are texts, which decoder and encoder read."""

    reads_files: ClassVar[bool] = False
    """True: the table is read from files, which may change between two commands; each command reads it anew."""

    source: str
    """Selects the data source, and with it the keys that the table may have."""
    partition: Partition = Iid()
    """Partition of the records over the clients; equal random shares by default."""
    holdout: float = Field(default=0.2, gt=0, lt=1)
    """Share of the records that no client holds, above 0 and below 1; utility is measured on them."""

    quasi_identifiers: tuple[str, ...] | None = None
    """Columns that an outside register lists beside people's names, such as ["age", "sex"]: claims are traced by them
    alone. Unset: those that the source says; [] for none, and then nobody is traced."""

    @property
    def declared_in(self) -> Path | None:
        """File of a public data dictionary, by which the table is encoded; None: it is computed from the records."""
        return None

    @property
    def known_elsewhere(self) -> tuple[str, ...]:
        """The quasi-identifiers in force."""
        return self.outsiders_know if self.quasi_identifiers is None else self.quasi_identifiers

    @classmethod
    def sample(cls, folder: Path) -> Self:
        """A small source of this kind for the contract test, which may write the files that it reads into the folder.

        By default the source with no key set; a source with keys that have no default must override it.
        """
        (source,) = get_args(cls.model_fields["source"].annotation)
        return cls.model_validate({"source": source})

    def load(self, seed: int) -> Table:
        """Load or make the table. Pure: the same fields and seed give the same table."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Columns, NDArray[Any]]:
        """Draw more records of the same distribution, columns and labels, each (count,); only synthetic sources can."""
        raise NotImplementedError

    def name(self, rng: np.random.Generator, columns: Columns) -> Columns | None:
        """Make identities for records that were drawn, by column as in the table; None where nobody has a name."""
        return None
