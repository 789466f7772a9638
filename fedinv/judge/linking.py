"""Linking: looking a claimed record up in an outside register that lists people's names beside a few columns.

A claim has no name in it. It leads to one only by columns that are known elsewhere too, the quasi-identifiers (Dalenius
1986, Finding a needle in a haystack): a voters' register may have age and sex, and none has laboratory values.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.data.population import Population

SAME = 1e-9
"""Squared distance, in standard deviations, up to which two people of the register are equally near to a claim."""


@dataclass(frozen=True)
class Register:
    """Everybody of a population with the columns that are known elsewhere."""

    columns: tuple[str, ...]
    """Names of the quasi-identifiers, one or more."""
    inputs: Tensor
    """Encoded values of those columns, float64 (people, inputs)."""
    at: NDArray[np.int64]
    """Places of those values among the inputs of a record, int64 (inputs,)."""

    @property
    def name(self) -> str:
        """The register in words, such as "a register of all 2000 people with age and sex"."""
        *most, last = self.columns
        return f"a register of all {len(self.inputs)} people with {', '.join(most)}{' and ' if most else ''}{last}"

    def nearest(self, claims: Tensor) -> NDArray[np.bool_]:
        """Who of the register is nearest to each valid encoded claim (k, width), and all that are as near; (k, people).

        Nearest is by squared distance, where an unequal category counts 2.
        """
        apart = torch.cdist(claims[:, torch.from_numpy(self.at)].double(), self.inputs).square()
        return np.asarray((apart <= apart.min(1, keepdim=True).values + SAME).numpy())


def register(people: Population, columns: tuple[str, ...]) -> Register | None:
    """A register of everybody with these columns; None without any, where one is missing, and for images and texts."""
    schema = people.table.schema
    if not columns or not schema.table or not set(columns) <= set(schema.names):
        return None
    slices = [schema.slices[schema.names.index(name)] for name in columns]
    at = np.concatenate([np.arange(one.start, one.stop) for one in slices])
    return Register(columns, people.inputs[:, torch.from_numpy(at)].double(), at)
