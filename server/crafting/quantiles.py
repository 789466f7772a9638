"""Thresholds by which records are spread evenly, from the public marginals or from auxiliary records."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.attack import Knowledge
from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

DRAWN = 20_000
"""Records drawn from the public marginals where there are none of the population."""
TAIL = 0.35
"""Width of an e-fold of the tail beyond the largest auxiliary record, in standard deviations."""


def samples(schema: Schema, knows: Knowledge, rng: np.random.Generator) -> Tensor:
    """Records by which thresholds are set, float64 (n, width): the auxiliary ones, or draws from the marginals."""
    return (schema.draw(DRAWN, rng) if knows.auxiliary is None else knows.auxiliary.records).double()


def quantiles(values: Tensor, levels: NDArray[np.float64]) -> Tensor:
    """Quantiles of a sample (n,), float64; levels beyond its ends lie on an exponential tail."""
    sample, few = values.double().numpy(), 1.0 / len(values)
    found = np.quantile(sample, levels, method="median_unbiased")
    for tail, sign in ((levels < few, -1.0), (levels > 1 - few, 1.0)):
        share = np.where(levels < 0.5, levels, 1 - levels)[tail].clip(1e-6)
        end = sample.min() if sign < 0 else sample.max()
        found[tail] = end - sign * sample.std() * TAIL * np.log(share / few)
    return torch.from_numpy(found)


def direction(schema: Schema, rng: np.random.Generator, numbers_only: bool = False) -> Tensor:
    """A random unit vector, float64 (width,), along which records differ; of columns with numbers if `numbers_only`."""
    drawn = torch.from_numpy(rng.standard_normal(schema.width))
    if numbers_only:
        for column, where in zip(schema.columns, schema.slices, strict=True):
            if isinstance(column, Categorical):
                drawn[where] = 0.0
    unit: Tensor = drawn / drawn.norm()
    return unit
