"""Continuous stand-ins for records: free numbers of any value that always denote a valid record."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.schema import Categorical, Schema

LIMIT = 12.0
"""Free numbers stay within +-LIMIT, where exp is exact and no slope vanishes in float32."""


@dataclass(frozen=True)
class Relaxation:
    """Maps free numbers to network inputs: softmax over a one-hot group, sigmoid into [low, high] for a number.

    Vero et al. 2023 (TabLeak), section 4.1. Without a schema the inputs are the free numbers themselves.
    """

    width: int
    low: Tensor
    """float32 (width,): least input of a continuous column, 0 elsewhere."""
    span: Tensor
    """float32 (width,): largest less least input, 0 for a constant column."""
    groups: Tensor
    """float32 (width, groups): 1 where an input belongs to a one-hot group."""
    bounded: bool

    def inputs(self, free: Tensor) -> Tensor:
        """(..., width) free numbers to inputs of the same shape: valid for any finite numbers."""
        if not self.bounded:
            return free
        odds = free.clamp(-LIMIT, LIMIT).exp()
        return self._shares(odds) + self.span * odds / (1 + odds) + self.low

    def pull_back(self, slope: Tensor, inputs: Tensor) -> Tensor:
        """Turn a slope with respect to the inputs (..., width) into one with respect to the free numbers."""
        if not self.bounded:
            return slope
        share = inputs * self._hot
        fraction = (inputs - self.low) / self.span.clamp_min(1e-12)
        grouped = share * (slope - ((share * slope) @ self.groups) @ self.groups.T)
        return grouped + slope * self.span * fraction * (1 - fraction) * (1 - self._hot)

    def free(self, inputs: Tensor, sharpness: float = 1.0) -> Tensor:
        """Free numbers (..., width) of given inputs: a one-hot 1 becomes `sharpness`, a 0 becomes 0."""
        if not self.bounded:
            return inputs.clone()
        fraction = ((inputs - self.low) / self.span.clamp_min(1e-12)).clamp(0.005, 0.995)
        return torch.where(self._hot > 0, inputs * sharpness, torch.logit(fraction))

    def harden(self, inputs: Tensor) -> Tensor:
        """Valid records nearest to the inputs (..., width): the largest of each group becomes 1, the others 0."""
        if not self.bounded:
            return inputs.clone()
        hard = inputs.clone()
        for group in self.groups.T:
            at = group.nonzero()[:, 0]
            hard[..., at] = torch.nn.functional.one_hot(inputs[..., at].argmax(-1), len(at)).to(inputs.dtype)
        return hard

    @property
    def freedom(self) -> int:
        """Numbers that can be chosen freely in one record."""
        varying = int((self.span > 0).sum()) if self.bounded else self.width
        return varying + int((self.groups.sum(0) - 1).sum())

    @property
    def _hot(self) -> Tensor:
        return self.groups.sum(1)

    def _shares(self, odds: Tensor) -> Tensor:
        totals = (odds @ self.groups) @ self.groups.T
        return self._hot * odds / torch.where(totals > 0, totals, 1.0)


def relax(schema: Schema | None, width: int) -> Relaxation:
    """Build the relaxation of a schema's records, or of `width` unbounded inputs where the schema is withheld."""
    low, span = torch.zeros(width), torch.zeros(width)
    if schema is None:
        return Relaxation(width, low, span, torch.zeros(width, 0), bounded=False)
    columns = list(zip(schema.columns, schema.slices, strict=True))
    hot = [(c, s) for c, s in columns if isinstance(c, Categorical)]
    groups = torch.zeros(width, len(hot))
    for i, (_, where) in enumerate(hot):
        groups[where, i] = 1
    for column, where in columns:
        if not isinstance(column, Categorical):
            low[where] = (column.low - column.mean) / column.std
            span[where] = (column.high - column.low) / column.std
    return Relaxation(width, low, span, groups, bounded=True)
