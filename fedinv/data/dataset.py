"""The base of every source of a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fedinv.data.partition import Iid, Partition
from fedinv.data.table import Table

Columns = Mapping[str, NDArray[Any]]


class Dataset(BaseModel):
    """Base of a data source: a frozen model whose fields are the keys of the scenario's [data], and `load`.

    A built-in source is a file in fedinv/data/sources/ named after it; others come by the entry point group
    ``fedinv.datasets``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: ClassVar[str] = "records"
    parties: ClassVar[str] = "clients"
    """What the verdict calls the records and who holds them."""

    images: ClassVar[bool] = False
    """Whether the records are images, which convolutional models can read."""

    source: str
    partition: Partition = Iid()
    """How the records are spread over the clients."""
    holdout: float = Field(default=0.2, gt=0, lt=1)
    """Share of the records that no client holds, on which utility is measured."""

    @classmethod
    def sample(cls, folder: Path) -> Self:
        """A small source of this kind for the contract test, which may write the files that it reads into the folder.

        By default the source with no key set; a source with keys that have no default must override it.
        """
        (source,) = get_args(cls.model_fields["source"].annotation)
        return cls.model_validate({"source": source})

    def load(self, seed: int) -> Table:
        """Return the table. Pure: the same fields and seed give the same table."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Columns, NDArray[Any]]:
        """More records of the table's kind: columns, each (count,), and labels. Only a source that can has this."""
        raise NotImplementedError

    def name(self, rng: np.random.Generator, columns: Columns) -> Columns | None:
        """Who these people are, column by column, as in the table; None where nobody has a name."""
        return None
