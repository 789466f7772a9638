"""temporary"""

from typing import Literal

import numpy as np

from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.schema import Schema, fit_continuous


class BreastCancer(Dataset):
    source: Literal["breast-cancer"]

    def load(self, seed):
        from sklearn.datasets import load_breast_cancer

        d = load_breast_cancer()
        cols = {str(n): d.data[:, i] for i, n in enumerate(d.feature_names)}
        return Table(
            Schema(columns=tuple(fit_continuous(n, v) for n, v in cols.items()), label="diagnosis", classes=("m", "b")),
            cols,
            d.target.astype(np.int64),
        )
