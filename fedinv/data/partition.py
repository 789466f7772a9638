"""temporary"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict


class Iid(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["iid"] = "iid"

    def split(self, table, clients, rng):
        return tuple(np.array_split(rng.permutation(len(table)), clients))


Partition = Iid
