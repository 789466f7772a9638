"""Real biopsies (scikit-learn): 30 measurements of 569 people."""

from typing import Literal

import numpy as np
from pydantic import Field

from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.errors import RequestError
from fedinv.federation.streams import stream
from fedinv.task.columns import fit_continuous
from fedinv.task.schema import Schema


class BreastCancer(Dataset):
    """Biopsies with the label `diagnosis` (Street, Wolberg and Mangasarian 1993); nobody's name comes with them."""

    people = "biopsy records"
    parties = "clinics"

    source: Literal["breast-cancer"]
    records: int | None = Field(default=None, ge=20)
    """Biopsies to use, drawn at random; all 569 when it is not given."""

    def load(self, seed: int) -> Table:
        """Return the biopsies in a random order. Raises RequestError when more are asked for than there are."""
        from sklearn.datasets import load_breast_cancer

        bunch = load_breast_cancer()
        total = len(bunch.target)
        if self.records is not None and self.records > total:
            raise RequestError(f"data.records: {self.records} is more than the {total} biopsies there are")
        rows = stream(seed, "breast-cancer").permutation(total)[: self.records]
        names = [str(name) for name in bunch.feature_names]
        columns = {name: np.asarray(bunch.data[rows, i], np.float64) for i, name in enumerate(names)}
        schema = Schema(
            columns=tuple(fit_continuous(name, values, sensitive=True) for name, values in columns.items()),
            label="diagnosis",
            classes=tuple(str(name) for name in bunch.target_names),
        )
        return Table(schema=schema, columns=columns, labels=np.asarray(bunch.target[rows], np.int64))
