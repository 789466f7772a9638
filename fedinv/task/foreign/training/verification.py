"""Verifies claims without the truth: labels by a fit of records' gradients, then the app's own training repeated."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedinv.task.foreign.training.entry import Entry, change
from fedinv.task.foreign.training.gradients import chosen_entries, descents, explained, fitted_weights
from fedinv.task.foreign.training.losses import shaped
from fedinv.task.foreign.training.train_function import Order
from fedinv.task.foreign.training.training import Repeatable, quietly
from fedinv.task.foreign.update import ROUNDING
from fedinv.task.seeding import seeded

BOUND = 0.01
"""Largest mismatch, relative to the update, of claims that count as verified once the app's training is repeated.

True records leave the rounding of float32, some 1e-6 to 1e-3. Of 32 rows one that is wrong or missing leaves 0.04 and
more (300 wrong sets, `python -m benchmarks foreign`), unless it hardly counts: see FREE."""
FREE = 3.0
"""A record is verified only where, left out, it would move the mismatch by as many times what is left unexplained."""
MOST_COLUMNS = 2048
"""Records times classes whose gradients are fitted at most."""
MOST_TRAININGS = 150
"""Trainings at most by which labels are changed one by one."""
POINTS = (0.5, 0.0, 1.0)
"""Shares of the way from the weights that were sent to the client's at which gradients are fitted after several steps.
"""
MOST_ORDERS = 120
"""Orders of batches that are tried at most; of more, one stands for all."""
REORDERED = 0.45
"""Mismatch up to which claims of all records may be right that were trained on in another order than the client's."""


@dataclass(frozen=True)
class Repeated:
    """Claims as they are after the training was repeated on them."""

    records: Tensor
    """Records (k, d), each as often as it was found to be in the batch."""
    labels: Tensor | None
    """Classes int64 (k,) or targets float32 (k,); None where targets cannot be solved for."""
    mismatch: float
    """Relative distance of the update from the repeated one, over the parameters that claims are held against."""
    good: Tensor
    """Which records are verified, bool (k,)."""
    note: str = ""
    """Reason why records are not verified; empty where all are."""
    all_tried: bool = True
    """Whether every order of local batches was tried; else the mismatch may be that of the order."""
    trainings: int = 1
    """Number of trainings that it took."""

    @property
    def whole(self) -> bool:
        """Whether all records, one at least, are verified."""
        return len(self.good) > 0 and bool(self.good.all())

    @property
    def reordered(self) -> bool:
        """Whether the mismatch may be that of another order of local batches than the client's."""
        return not self.all_tried and self.mismatch <= REORDERED

    @property
    def verified(self) -> int:
        """Number of records that are verified."""
        return int(self.good.sum())


@dataclass(frozen=True)
class Observed:
    """An update of the parameters that claims are held against, by the network's own names."""

    sent: Mapping[str, Tensor]
    """Weights and buffers that were sent, of the whole network."""
    update: Mapping[str, Tensor]
    """Changes of the weights and buffers that came back."""
    pulled: Mapping[str, Tensor]
    """The same without what weight decay alone changed."""
    noise: float = 0.0
    """Standard deviation of what a known rounding added to each entry, as that of a secure aggregation."""

    def flat(self, names: Sequence[str]) -> Tensor:
        """The changes of these parameters as one vector, float64 (D,)."""
        return torch.cat([self.update[name].double().flatten() for name in names])

    def rounding(self, names: Sequence[str]) -> float:
        """The share of the update that known rounding, to float32 at least, alone may leave unexplained."""
        flat = self.flat(names)
        size = float(torch.cat([self.sent[name].double().flatten() for name in names]).norm())
        return math.hypot(ROUNDING * size, self.noise * len(flat) ** 0.5) / max(float(flat.norm()), 1e-30)

    def bound(self, names: Sequence[str]) -> float:
        """The largest mismatch of claims that count as verified: BOUND beside what known noise leaves of right ones.

        The squares of D normal errors have a sum within 4 sqrt(2 D) of D, but once in some 10,000 cases.
        """
        flat = self.flat(names)
        left = self.noise**2 * (len(flat) + 4 * math.sqrt(2 * len(flat)))
        return math.sqrt(BOUND**2 + left / max(float(flat.square().sum()), 1e-60))


def repeated(entry: Entry, how: Repeatable, seen: Observed, records: Tensor, least: int = 1) -> Repeated:
    """Find the labels and numbers of claimed records (k, d), distinct ones, and train on them again as the app would.

    Classes come first where targets may be classes, then numbers of a single output. With nothing known of the
    optimizer one step of any length is taken. Records that the update does not need are left out. At least `least`
    records are in the batch: with fewer, targets that are numbers are not solved for.
    """
    records = torch.unique(records.float(), dim=0)
    numbers = None if how.loss is None else how.loss.numbers
    best = Repeated(records, None, math.inf, torch.zeros(len(records), dtype=torch.bool), "no records are claimed")
    for as_numbers in (True,) if numbers else (False,) if numbers is False or how.outputs > 1 else (False, True):
        for share in (0.0,) if how.single(len(records)) else POINTS:
            fitted = _fit(entry, how, seen, records, as_numbers, share, least)
            if isinstance(fitted, str):
                best = best if best.mismatch < math.inf else replace(best, note=fitted)
                continue
            for tried in _counted(fitted, seen.rounding(list(entry.names)), as_numbers):
                best = _nearer(best, _judged(entry, how, seen, tried))
                if best.whole:
                    return best
            if not as_numbers and not how.single(len(records)):
                best = _nearer(best, _relabeled(entry, how, seen, fitted))
                if best.whole:
                    return best
    return best


def _nearer(one: Repeated, other: Repeated) -> Repeated:
    """The one of the smaller mismatch, the other where neither has one."""
    return one if one.mismatch < other.mismatch or (one.mismatch == other.mismatch < math.inf) else other


def _relabeled(entry: Entry, how: Repeatable, seen: Observed, fitted: "_Fitted") -> Repeated:
    """The same records with labels changed one by one as long as that brings the repeated update nearer.

    Several steps bend each record's gradient, so that the fit of one gradient takes some labels for others.
    """
    best, labels = _judged(entry, how, seen, fitted), fitted.labels
    assert labels is not None
    if not best.all_tried or math.isinf(best.mismatch):
        return best
    left = MOST_TRAININGS // best.trainings
    for row in (*fitted.doubt.argsort(descending=True).tolist(), *fitted.doubt.argsort(descending=True).tolist()):
        for label in range(how.classes):
            if best.whole or left <= 0:
                return best
            if label == int(labels[row]):
                continue
            changed = labels.clone()
            changed[row] = label
            found, left = _judged(entry, how, seen, replace(fitted, labels=changed)), left - 1
            if found.mismatch < best.mismatch:
                best, labels = found, changed
    return best


@dataclass(frozen=True)
class _Fitted:
    """Records with labels by the fit of their gradients."""

    records: Tensor
    labels: Tensor | None
    weights: Tensor
    """Weight of each record's gradient, (k,)."""
    shares: Tensor
    """Share of the update that nothing but this record explains, (k,)."""
    left: float
    """Relative residual of the fit."""
    again: Tensor
    """How often each is taken to be in the batch, int64 (k,)."""
    doubt: Tensor
    """Weight of each record's second label relative to its first one's, 0 to 1, (k,)."""

    def those(self, good: Tensor) -> "_Fitted":
        """The records of a mask (k,)."""
        numbers = (
            self.labels is not None and self.labels.is_floating_point()
        )  # they depend on how many records there are
        labels = None if self.labels is None or numbers else self.labels[good]
        weights, shares = self.weights[good], self.shares[good]
        return _Fitted(self.records[good], labels, weights, shares, self.left, self.again[good], self.doubt[good])


def _fit(
    entry: Entry, how: Repeatable, seen: Observed, records: Tensor, as_numbers: bool, share: float, least: int
) -> "_Fitted | str":
    """The fit of the update by the records' gradients, at weights a share of the way; a reason where there is none."""
    classes = 1 if as_numbers else how.classes
    if not len(records) or len(records) * classes > MOST_COLUMNS:
        return f"{len(records)} records of {classes} classes are none or more than are fitted"
    at = {
        name: tensor + share * seen.update[name] if name in seen.update and tensor.is_floating_point() else tensor
        for name, tensor in seen.sent.items()
    }
    chosen = chosen_entries({name: seen.pulled[name] for name in entry.names})
    update = torch.cat([seen.pulled[name].double().flatten()[rows] for name, rows in chosen.items()])
    columns = list[Tensor]()
    for label in (None,) if as_numbers else range(classes):
        reason = quietly(lambda label=label: columns.append(descents(entry, how, at, records, label, chosen)))  # type: ignore[misc]
        if reason or not bool(torch.isfinite(columns[-1]).all()):
            return f"a record's own gradient cannot be had: {reason or 'it is not finite'}"
    each = torch.stack(columns, 1)  # (records, classes, entries)
    try:
        weights = fitted_weights(each.flatten(0, 1).T, update, nonnegative=not as_numbers)
    except (RuntimeError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return "the fit of records' gradients does not end"
    weights = weights.reshape(len(records), classes)
    used = weights.abs().amax(1) > 0
    if not bool(used.any()):
        return "no record's gradient is part of the update"
    first = weights[used].abs().topk(min(2, classes), dim=1)
    kept, alone = records[used], each[used, first.indices[:, 0]].T  # with the label found for each
    picked = fitted_weights(alone, update, nonnegative=not as_numbers)
    left, shares = explained(alone, picked, update)
    return _Fitted(
        records=kept,
        labels=(_targets(entry, how, at, kept, picked) if len(kept) >= least else None)
        if as_numbers
        else first.indices[:, 0],
        weights=picked,
        shares=shares,
        left=left,
        again=torch.ones(len(kept), dtype=torch.int64),
        doubt=first.values[:, -1] / first.values[:, 0],
    )


def _targets(
    entry: Entry, how: Repeatable, at: Mapping[str, Tensor], records: Tensor, weights: Tensor
) -> Tensor | None:
    """The targets (k,) with which each record's output has its slope, by halving; None where no length is known.

    A record's weight is the learning rate over the number of records, times the loss's slope by its output. The loss
    must be convex in output less target, as squared and Huber's error are.
    """
    if how.loss is None or how.lr is None or not how.single(len(records)):
        return None
    network = entry.at(at).double().eval()
    with torch.no_grad():
        outputs = network(entry.inputs(records).double()).flatten()
    boost = 1.0 + how.steps.number("momentum") if how.steps.settings.get("nesterov") else 1.0
    wanted = weights * len(records) / (how.lr * boost)
    objective = how.loss.objective

    def slope(targets: Tensor) -> Tensor:
        leaf = outputs.clone().requires_grad_()
        each = leaf[:, None] if how.form == "column" else leaf
        goal = targets[:, None] if how.form == "column" else targets
        losses = [objective(each[i : i + 1], goal[i : i + 1]).sum() for i in range(len(leaf))]
        found: Tensor = torch.autograd.grad(torch.stack(losses).sum(), leaf)[0]
        return found

    low, high = outputs - 1e3, outputs + 1e3
    for _ in range(80):
        middle = (low + high) / 2
        above = slope(middle) > wanted  # the slope falls as the target grows
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    found = (low + high) / 2
    solved = (slope(found) - wanted).abs() <= 1e-6 * wanted.abs().max().clamp_min(1e-12)
    return found.float() if bool(solved.all()) else None


def _counted(fitted: _Fitted, rounding: float, as_numbers: bool) -> Iterator[_Fitted]:
    """The records each once, then each as often as its weight is a multiple of the smallest.

    Then the same without records of which rounding is all that the fit can use.
    """
    needed = fitted.shares > FREE * max(fitted.left, rounding)
    for one in (fitted, fitted.those(needed)) if bool(needed.any()) and not bool(needed.all()) else (fitted,):
        yield one
        if not as_numbers and float(one.weights.min()) > 0:
            again = (one.weights / one.weights.min()).round().clamp(max=MOST_COLUMNS).long()
            if int(again.max()) > 1 and int(again.sum()) <= MOST_COLUMNS:
                yield replace(one, again=again)


def _judged(entry: Entry, how: Repeatable, seen: Observed, tried: _Fitted) -> Repeated:
    """Records with labels as the training repeated on them shows them to be: verified, or why not."""
    names = list(entry.names)
    records = tried.records.repeat_interleave(tried.again, 0)
    labels = None if tried.labels is None else tried.labels.repeat_interleave(tried.again, 0)
    none = torch.zeros(len(records), dtype=torch.bool)
    orders, all_tried = _orders(len(records), how)
    base = Repeated(records, labels, math.inf, none, all_tried=all_tried, trainings=len(orders))
    if labels is None:
        if not how.single(len(records)):
            return replace(base, note="targets cannot be solved for behind several steps")
        left: float | str = tried.left
    else:
        targets = shaped(labels, how.form, how.outputs)
        left = _again(entry, how, seen, entry.inputs(records), targets, orders)
    if isinstance(left, str):
        return replace(base, note=left)
    most = seen.bound(names)
    if not left <= most:
        shares = f"{100 * left:.1f} % of the update unexplained, more than {100 * most:.2g} %"
        note = f"trained on again, the claims leave {shares}"
        if not all_tried:
            note += ", in one of more orders of local batches than are tried"
        return replace(base, mismatch=left, note=note)
    needed = (tried.shares > FREE * max(left, seen.rounding(names))).repeat_interleave(tried.again, 0)
    note = "" if bool(needed.all()) else "some records are too small a part of the update to be verified"
    return replace(base, mismatch=left, good=needed, note=note)


def _again(
    entry: Entry, how: Repeatable, seen: Observed, inputs: Tensor, targets: Tensor, orders: Sequence[Sequence[Order]]
) -> "float | str":
    """The mismatch of the update that the training repeated gives, in the best of these orders; a reason for none."""
    observed = seen.flat(list(entry.names))
    size, best = max(float(observed.norm()), 1e-30), math.inf
    for passes in orders:
        network = entry.at(seen.sent)
        with seeded(0):
            reason = quietly(partial(how.train, network, inputs, targets, passes))
        if reason:
            return f"the training failed on the records: {reason}"
        step = change(entry, seen.sent, network)
        # what lies before a layer is not trained again, so that clipping by the whole gradient's norm is not known
        any_length = how.any_length or (not entry.whole and how.single(len(inputs)))
        along = float((step @ observed) / step.square().sum().clamp_min(1e-30)) if any_length else 1.0
        best = min(best, float((observed - max(along, 0.0) * step).norm()) / size)
    return best


def _orders(records: int, how: Repeatable) -> tuple[list[list[Order]], bool]:
    """The orders of a client's local batches, those of each pass; one alone where there are more than MOST_ORDERS.

    Beside them stands whether they are all.
    """
    size = min(how.training.batch or records, records)
    each = list(itertools.islice(_partitions(tuple(range(records)), size), MOST_ORDERS + 1))
    passes = max(1, how.steps.count)
    if len(each) ** passes > MOST_ORDERS:
        return [each[:1]], False
    return [list(one) for one in itertools.product(each, repeat=passes)], True


def _partitions(rows: tuple[int, ...], size: int) -> Iterator[Order]:
    """All ways to cut rows into batches of a size, in order, the last with what is left."""
    if len(rows) <= size:
        yield [list(rows)]
        return
    for first in itertools.combinations(rows, size):
        rest = tuple(row for row in rows if row not in first)
        for behind in _partitions(rest, size):
            yield [list(first), *behind]
