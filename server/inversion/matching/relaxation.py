"""Continuous relaxations of records: maps from unconstrained numbers to valid network inputs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

Form = Literal["relaxed", "box", "free"]
"""Kinds of relaxation, see `Relaxation`."""

LIMIT = 12.0
"""Bound of free numbers, within which exp is accurate and no slope vanishes in float32."""


@dataclass(frozen=True)
class Relaxation:
    """Maps free numbers to network inputs.

    "relaxed": softmax over a one-hot group, sigmoid into [low, high] for a number (Vero et al. 2023, TabLeak, section
    4.1). "box": the inputs themselves, held within [low, high] (Geiping et al. 2020). "free": the inputs themselves.
    """

    width: int
    """Number of network inputs."""
    low: Tensor
    """Least value of each input, float32 (width,), or (n, width) record by record."""
    span: Tensor
    """Largest minus least value of each input, shaped as `low`: 0 for a constant, infinite where not known."""
    groups: Tensor
    """1 where an input belongs to a one-hot group, else 0, float32 (width, groups)."""
    form: Form
    """Kind of relaxation."""

    def inputs(self, free: Tensor) -> Tensor:
        """The inputs (..., width) of free numbers of the same shape."""
        if self.form != "relaxed":
            return free
        odds = free.clamp(-LIMIT, LIMIT).exp()
        return self._shares(odds) + self._range * odds / (1 + odds) + self.low

    def pull_back(self, slope: Tensor, inputs: Tensor) -> Tensor:
        """The slope with respect to the free numbers, given that with respect to the inputs (..., width)."""
        if self.form == "box":
            return slope * (self.span > 0)
        if self.form == "free":
            return slope
        share = inputs * self._hot
        fraction = (inputs - self.low) / self._range.clamp_min(1e-12)
        grouped = share * (slope - ((share * slope) @ self.groups) @ self.groups.T)
        return grouped + slope * self._range * fraction * (1 - fraction)

    def free(self, inputs: Tensor, sharpness: float = 1.0) -> Tensor:
        """Free numbers (..., width) near these inputs; of a one-hot group 1 becomes `sharpness`, 0 stays 0."""
        if self.form != "relaxed":
            return inputs.clone()
        fraction = ((inputs - self.low) / self._range.clamp_min(1e-12)).clamp(0.005, 0.995)
        return torch.where(self._hot > 0, inputs * sharpness, torch.logit(fraction))

    def project(self, free: Tensor) -> None:
        """Clamp free numbers (..., width) in place to the allowed range."""
        if self.form == "relaxed":
            free.clamp_(-LIMIT, LIMIT)
        elif self.form == "box":
            free.clamp_(self.low, self.low + self.span)

    def inward(self, slope: Tensor, free: Tensor) -> Tensor:
        """The slope (..., width) with respect to free numbers, 0 where a descent along it would only leave the box."""
        if self.form != "box":
            return slope
        outward = ((free <= self.low) & (slope > 0)) | ((free >= self.low + self.span) & (slope < 0))
        return slope.masked_fill(outward, 0.0)

    def harden(self, inputs: Tensor) -> Tensor:
        """The inputs (..., width) with one-hot groups: the largest of each group becomes 1, the others 0."""
        hard = inputs.clone()
        for group in self.groups.T:
            at = group.nonzero()[:, 0]
            hard[..., at] = torch.nn.functional.one_hot(inputs[..., at].argmax(-1), len(at)).to(inputs.dtype)
        return hard

    def fixed(self, records: Tensor) -> "Relaxation":
        """The numbers of records (n, width) within their ranges; their categories stay as they are."""
        hot = self._hot > 0
        if self.form == "free" and not bool(hot.any()):
            return self
        low, span = torch.where(hot, records, self.low), torch.where(hot, 0.0, self.span).expand_as(records)
        return Relaxation(self.width, low, span, self.groups, "box")

    def without(self, absent: Tensor) -> "Relaxation":
        """Without the categories that no record has, bool (width,), whose inputs stay 0; one of each group stays."""
        gone = absent & (self._hot > 0) if self.form == "relaxed" else torch.zeros_like(absent)
        groups = torch.where(gone[:, None], 0.0, self.groups)
        groups = torch.where(groups.any(0), groups, self.groups)
        left = groups.sum(1) > 0
        span = torch.where((self._hot > 0) & ~left, 0.0, self.span)
        return Relaxation(self.width, self.low, span, groups, self.form)

    def to(self, device: torch.device) -> "Relaxation":
        """The same relaxation on another device."""
        return Relaxation(self.width, self.low.to(device), self.span.to(device), self.groups.to(device), self.form)

    @property
    def freedom(self) -> int:
        """Number of unknowns of one record: numbers that are not constant, and categories' values less one each."""
        varying = int(((self.span > 0) & (self._hot == 0)).sum())
        return varying + int((self.groups.sum(0) - 1).sum())

    @cached_property
    def _range(self) -> Tensor:
        """Largest minus least value of each number, 0 for the inputs of one-hot groups."""
        return self.span * (1 - self._hot)

    @cached_property
    def _hot(self) -> Tensor:
        return self.groups.sum(1)

    def _shares(self, odds: Tensor) -> Tensor:
        totals = (odds @ self.groups) @ self.groups.T
        return self._hot * odds / torch.where(totals > 0, totals, 1.0)


def relax(schema: Schema | None, width: int, form: Form = "relaxed") -> Relaxation:
    """Build the relaxation of a schema's records, or of `width` unbounded inputs where the schema is withheld."""
    if schema is None:
        return Relaxation(width, torch.zeros(width), torch.full((width,), torch.inf), torch.zeros(width, 0), "free")
    low, span = torch.zeros(width), torch.zeros(width)
    columns = list(zip(schema.columns, schema.slices, strict=True))
    hot = [(c, s) for c, s in columns if isinstance(c, Categorical)]
    groups = torch.zeros(width, len(hot))
    for i, (_, where) in enumerate(hot):
        groups[where, i] = 1
    for column, where in columns:
        if isinstance(column, Categorical):
            span[where] = 1.0
        else:
            low[where] = (column.low - column.mean) / column.std
            span[where] = (column.high - column.low) / column.std
    return Relaxation(width, low, span, groups, form)
