"""What an update holds beside known records: after one step it is the other records' alone, if the labels are right."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from fedinv.task.foreign.training.entry import Entry
from fedinv.task.foreign.training.gradients import descents, label_weights
from fedinv.task.foreign.training.training import Repeatable, quietly
from fedinv.task.foreign.training.verification import Observed

BEYOND = 0.0005
"""Largest share of what is left that so few records cannot have made, up to which the known ones and labels hold.

Right ones leave 3e-5 to 1e-4 of it in fl-tabular, a wrong label of 31 rows 0.4; features that are 2 % of their standard
deviation off 0.003, of quickstart-pytorch's images, and four of which one was 9 % of it off, the others 0.7 %, 0.0012.
"""
LENGTHS = (0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.9, 2.5)
"""Lengths of the step between which the best one is looked for, in multiples of the one that explains most of the
update by the known records alone."""
MOST = 20_000_000
"""Entries of records' gradients with each label that are held at most, 8 bytes each."""
TRIED = 128
"""Labels that are tried in place of others at most."""
CHANGED = 3
"""Labels that are changed at most."""


@dataclass(frozen=True)
class Remainder:
    """An update without what known records made of it."""

    update: dict[str, Tensor]
    """Changes of the parameters that claims are held against, float32, by the network's own names."""
    labels: Tensor
    """Labels of the known records, int64 (k,), some perhaps put right."""
    beyond: float
    """Share of what is left that the missing records cannot have made, as its layers' ranks exceed their number."""

    @property
    def holds(self) -> bool:
        """Whether records and labels are verified: a wrong one leaves more than the missing ones can make."""
        return self.beyond <= BEYOND


def remainder(
    entry: Entry, how: Repeatable, seen: Observed, records: Tensor, labels: Tensor, missing: int
) -> Remainder | None:
    """What one step on known records (k, d) with labels (k,) and `missing` others leaves of the update.

    The claims are held against layers with a weight and a bias each, in this order. A record changes a layer by a
    matrix of rank 1, so that `missing` records leave one of that rank: by this the length of the step is found, and
    labels are tried that leave less. None where the gradients cannot be had or are too many, and where no layer can
    have a larger rank, so that any update could be that of so many records.
    """
    names = list(entry.names)
    entries = sum(seen.pulled[name].numel() for name in names)
    if len(records) * how.classes * entries > MOST:
        return None
    chosen = {name: torch.arange(seen.pulled[name].numel()) for name in names}
    columns: list[Tensor] = []
    for label in range(how.classes):
        if quietly(lambda label=label: columns.append(descents(entry, how, seen.sent, records, label, chosen))):  # type: ignore[misc]
            return None
    # (records, classes, entries)
    each = torch.stack(columns, 1) * label_weights(entry, how, seen.sent, records)[:, None]
    if not bool(torch.isfinite(each).all()) or not bool((labels < how.classes).all()):
        return None
    update = torch.cat([seen.pulled[name].double().flatten() for name in names])
    layers = _Layers.of(seen, names)
    place = layers.smallest(missing)
    if place is None:
        return None
    found = _relabeled(layers, update, each, labels, missing, place)
    left = update - found.length * _sum(each, found.labels)
    parts = torch.split(left, [seen.pulled[name].numel() for name in names])
    return Remainder(
        update={n: one.reshape(seen.pulled[n].shape).float() for n, one in zip(names, parts, strict=True)},
        labels=found.labels,
        beyond=found.beyond,
    )


@dataclass(frozen=True)
class _Layers:
    """How a flat update is cut into layers."""

    shapes: tuple[tuple[int, int], ...]
    """Outputs and inputs of each layer, without its bias."""

    @classmethod
    def of(cls, seen: Observed, names: Sequence[str]) -> "_Layers":
        """The layers of parameters that are a weight and a bias in turn."""
        shapes = [seen.pulled[name].shape for name in names[::2]]
        return cls(tuple((int(one[0]), int(one[1])) for one in shapes))

    def matrices(self, flat: Tensor) -> list[Tensor]:
        """The changes (outputs, inputs + 1) of each layer, its bias's in the last column."""
        sizes = [size for outputs, inputs in self.shapes for size in (outputs * inputs, outputs)]
        parts = torch.split(flat, sizes)
        return [
            torch.cat([weight.reshape(shape), bias[:, None]], 1)
            for shape, weight, bias in zip(self.shapes, parts[::2], parts[1::2], strict=True)
        ]

    def smallest(self, rank: int) -> int | None:
        """Place of the smallest layer that can have a larger rank; None where none can."""
        last = len(self.shapes) - 1  # where the slopes of several outputs sum to 0, as of cross-entropy
        most = [min(out - (place == last), wide) for place, (out, wide) in enumerate(self.shapes)]
        able = [(out * (wide + 1), place) for place, (out, wide) in enumerate(self.shapes) if most[place] > rank]
        return min(able)[1] if able else None


@dataclass(frozen=True)
class _Found:
    labels: Tensor
    length: float
    beyond: float


def _relabeled(layers: _Layers, update: Tensor, each: Tensor, labels: Tensor, missing: int, place: int) -> _Found:
    """The labels and the length of the step that leave least beyond so many records, changing labels one by one.

    Changes are compared by what the layer at this place alone leaves.
    """
    best = _fitted(layers, update, each, labels, missing, None)
    rows, classes = range(len(labels)), range(each.shape[1])
    tried = [(row, label) for row in rows for label in classes if label != int(labels[row])]
    for _ in range(CHANGED if len(tried) <= TRIED else 0):
        if best.beyond <= BEYOND:
            break
        others = [_changed(best.labels, row, label) for row, label in tried]
        near = min((_fitted(layers, update, each, one, missing, place) for one in others), key=lambda one: one.beyond)
        changed = _fitted(layers, update, each, near.labels, missing, None)
        if changed.beyond >= best.beyond:
            break
        best = changed
    return best


def _changed(labels: Tensor, row: int, label: int) -> Tensor:
    found = labels.clone()
    found[row] = label
    return found


def _fitted(layers: _Layers, update: Tensor, each: Tensor, labels: Tensor, missing: int, place: int | None) -> _Found:
    """The length of the step that leaves least beyond so many records, of one layer or of all."""
    step = _sum(each, labels)
    along = float((step @ update) / step.square().sum().clamp_min(1e-30))
    pairs = list(zip(layers.matrices(update), layers.matrices(step), strict=True))
    pairs = pairs if place is None else pairs[place : place + 1]

    def parts(length: float) -> tuple[float, float]:
        """Squared size of what is beyond so many records, and of all that is left."""
        values = [torch.linalg.svdvals(one - length * other).square() for one, other in pairs]
        return sum(float(one[missing:].sum()) for one in values), sum(float(one.sum()) for one in values)

    if along <= 0:
        return _Found(labels, 0.0, 1.0)
    grid = [share * along for share in LENGTHS]
    best = min(range(1, len(grid) - 1), key=lambda place: parts(grid[place])[0])
    edges, fine = (grid[best - 1], grid[best + 1]), (1e-2 if place is not None else 1e-7) * along
    found = minimize_scalar(lambda one: parts(one)[0], bounds=edges, method="bounded", options={"xatol": fine})
    beyond, whole = parts(float(found.x))
    return _Found(labels, float(found.x), (beyond / max(whole, 1e-60)) ** 0.5)


def _sum(each: Tensor, labels: Tensor) -> Tensor:
    return each[torch.arange(len(labels)), labels].sum(0)
