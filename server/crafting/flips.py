"""Records read off the units that begin to fire at them, between two rounds of weights that differ by little.

Where the biases of layer 2 move by `s` between two rounds, a unit k gains the records whose pre-activation the move
carries over 0, and loses others; its row of the update changes by e.w_k [h1(x), 1] of these, with the layer's inputs
h1, the error e at the outputs, and the unit's weights w_k there. All else changes smoothly, and by almost the same
amount in each round: the median over the rounds is taken off. h1 is linear in x on the units of layer 1 that fire, so
that x follows by least squares. What a record that was found contributes to each row of each round is computed through
the network that was sent and taken out before the next pass, also as it changes smoothly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedinv.attack import Exchange
from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .dictionary import certified, snapped

MISFIT = 2e-3
"""Largest error of layer 1's outputs, by the record that was found, in units of the largest of them."""
NEGATIVE = 0.02
"""Negative output of layer 1, in units of the largest, by which a row is known to hold more than one record."""
SLACK = 4e-3
"""Error of a record that is believed: of a one-hot entry, or in standard deviations."""
FIRING = 0.02
"""Share of the largest output of layer 1 above which a unit certainly fires."""
LEAST = 0.05
"""Smallest error of a record that is looked at, as a share of the largest there can be."""
PASSES = 12
"""Passes over all gains at most, each without the records found before."""
SAME = 0.05
"""Standard deviations up to which two records with the same categories are one, read twice."""
OTHER = 0.05
"""Relative distance of a change from that of every class at the claimed record, beyond which the record is left in."""


@dataclass(frozen=True)
class Rounds:
    """What came back of one batch in rounds that differ by the biases of layer 2."""

    rows: Tensor
    """Row and bias of each unit of layer 2 of the negative gradient, float64 (rounds, units, inputs + 1)."""
    biases: Tensor
    """Biases of layer 2 that were sent in each round, float64 (rounds, units)."""
    sent: tuple[Tensor, ...]
    """The six tensors of the network, float64; the biases of layer 2 are those of any of the rounds."""
    batch: int
    """Number of records that the update is the mean over."""

    @cached_property
    def least(self) -> Tensor:
        """Smallest change of a unit's bias that is looked at, (units,)."""
        w3 = self.sent[4]
        return LEAST * (w3.amax(0) - w3.amin(0)) / self.batch

    def outputs(self, records: Tensor) -> Tensor:
        """[h1(x), 1] of records (k, width), (k, inputs + 1)."""
        hidden = torch.relu(records @ self.sent[0].T + self.sent[1])
        return torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)

    def errors(self, records: Tensor, labels: Tensor) -> Tensor:
        """Error e.w_k that records (k, width) of these classes send to each unit, 0 where it does not fire.

        Of each round, (rounds, k, units).
        """
        _, _, w2, _, w3, b3 = self.sent
        before = self.outputs(records)[:, :-1] @ w2.T + self.biases[:, None]
        off = torch.softmax(torch.relu(before) @ w3.T + b3, 2) - torch.eye(len(b3)).double()[labels]
        return (off @ w3) / self.batch * (before > 0)

    def steps(self, records: Tensor, round_: Tensor, unit: Tensor) -> Tensor:
        """Change of a unit's bias when it begins, or ceases, to fire at a record behind a round, (k, classes)."""
        _, _, w2, _, w3, b3 = self.sent
        before = self.outputs(records)[:, :-1] @ w2.T + self.biases[round_]
        off = torch.softmax(torch.relu(before) @ w3.T + b3, 1)[:, None] - torch.eye(len(b3)).double()
        up = (self.biases[round_ + 1, unit] - self.biases[round_, unit]).sign()
        return (off * w3.T[unit][:, None]).sum(2) / self.batch * up[:, None]


@dataclass(frozen=True)
class Listed:
    """k records with their labels."""

    records: Tensor
    """Records, float64 (k, width)."""
    labels: Tensor
    """Class of each, by the sign and size of its changes, int64 (k,)."""
    known: Tensor
    """Which records' changes are those of their class, so that they are taken out of all rows, bool (k,)."""

    def only(self, which: Tensor) -> "Listed":
        """Some of the records."""
        return Listed(self.records[which], self.labels[which], self.known[which])


def rounds(exchanges: Sequence[Exchange], lr: float) -> Rounds:
    """The rows of layer 2 in rounds in which the same weights were sent, but for its biases."""
    rows = []
    for one in exchanges:
        weight, bias = list(one.received.values())[2:4]
        rows.append(torch.cat([weight, bias[:, None]], 1).double() / -lr)
    biases = torch.stack([list(one.sent.values())[3].double() for one in exchanges])
    sent = tuple(tensor.double() for tensor in exchanges[-1].sent.values())
    return Rounds(torch.stack(rows), biases, sent, exchanges[-1].records)


def changes(seen: Rounds, found: Listed) -> tuple[Tensor, Tensor]:
    """What changes in the rows between rounds beside the known records, and what these sent.

    The first is (rounds - 1, units, inputs + 1), without what changes equally in all rounds. The second is each known
    record's coefficient of [h1(x), 1] in the rows of each round, (rounds, known, units).
    """
    some = found.only(found.known)
    own = seen.errors(some.records, some.labels)
    left = seen.rows - own.transpose(1, 2) @ seen.outputs(some.records)
    left = left[1:] - left[:-1]
    return left - left.median(0).values, own


def listed(seen: Rounds, schema: Schema, found: Listed | None = None) -> Listed:
    """The records behind the changes between rounds; only those that the dictionary certifies.

    `found` are those that are known already, which come first.
    """
    system = _Layer(seen.sent[0], seen.sent[1], *_sums(schema))
    if found is None:
        none = torch.zeros(0, dtype=torch.int64)
        found = Listed(torch.zeros(0, schema.width).double(), none, none.bool())
    for _ in range(PASSES):
        left, _ = changes(seen, found)
        round_, unit = (left[:, :, -1].abs() > seen.least).nonzero().T
        rows = left[round_, unit]
        solved, misfit = system.solve(rows[:, :-1] / rows[:, -1:])
        good = (misfit < MISFIT) & certified(schema, solved, SLACK)
        new, places = list[Tensor](), list[int]()
        for place in misfit.where(good, torch.inf).argsort()[: int(good.sum())].tolist():  # the most accurate first
            row = snapped(schema, solved[place : place + 1])
            if not bool(((torch.cat([found.records, *new]) - row).abs().amax(1) < SAME).any()):
                new.append(row)
                places.append(place)
        if not new:
            break
        taken = _labeled(seen, torch.cat(new), round_[places], unit[places], rows[places, -1])
        found = Listed(
            torch.cat([found.records, taken.records]),
            torch.cat([found.labels, taken.labels]),
            torch.cat([found.known, taken.known]),
        )
        if not bool(taken.known.any()):
            break
    return found


def _labeled(seen: Rounds, records: Tensor, round_: Tensor, unit: Tensor, sizes: Tensor) -> Listed:
    """The records with the class whose error is nearest to the change of a unit's bias after a round, each (k,)."""
    off = (seen.steps(records, round_, unit) / sizes[:, None] - 1).abs()
    return Listed(records, off.argmin(1), off.amin(1) < OTHER)


@dataclass(frozen=True)
class _Layer:
    """Layer 1 with the equations that hold for every record: its categories' entries sum to 1."""

    weight: Tensor
    bias: Tensor
    sums: Tensor
    ones: Tensor

    def solve(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Records (n, width) with these outputs (n, units), and how badly they fit (n,)."""
        found, misfit = list[Tensor](), list[Tensor]()
        width = self.weight.shape[1]
        none = torch.full((width,), torch.nan).double()
        for one in outputs:
            top = float(one.max())
            fires = one > FIRING * top
            few = int(fires.sum()) + len(self.sums) < width
            if few or not bool(one.isfinite().all()) or float(one.min()) < -NEGATIVE * top:
                found.append(none)
                misfit.append(torch.tensor(torch.inf).double())
                continue
            left = torch.cat([self.weight[fires], self.sums])
            right = torch.cat([(one - self.bias)[fires], self.ones])
            record = torch.linalg.lstsq(left, right[:, None]).solution[:, 0]
            found.append(record)
            misfit.append((torch.relu(self.weight @ record + self.bias) - one).abs().max() / top)
        if not found:
            return torch.zeros(0, width).double(), torch.zeros(0).double()
        return torch.stack(found), torch.stack(misfit)


def _sums(schema: Schema) -> tuple[Tensor, Tensor]:
    rows = []
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Categorical):
            row = torch.zeros(schema.width).double()
            row[where] = 1.0
            rows.append(row)
    table = torch.stack(rows) if rows else torch.zeros(0, schema.width).double()
    return table, torch.ones(len(rows)).double()
