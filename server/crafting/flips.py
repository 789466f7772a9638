"""Records read off the units that begin to fire at them, between two rounds of weights that differ by little.

Where the biases of layer 2 move by `s` between two rounds, a unit k gains the records whose pre-activation the move
carries over 0, and loses others; its row of the update changes by e.w_k [h1(x), 1] of these, with the layer's inputs
h1, the error e at the outputs, and the unit's weights w_k there. All else changes smoothly, and by almost the same
amount in each round: the median over the rounds is taken off. h1 is linear in x on the units of layer 1 that fire, so
that x follows by least squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.attack import Exchange, Weights
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


@dataclass(frozen=True)
class Flips:
    """The change of layer 2's rows between rounds."""

    gains: Tensor
    """Change of each row and bias of the negative gradient, float64 (rounds - 1, units, inputs + 1)."""
    biases: Tensor
    """Biases of layer 2 that were sent in each round, float64 (rounds, units)."""


@dataclass(frozen=True)
class Seen:
    """k records with their labels."""

    records: Tensor
    """Records, float64 (k, width)."""
    labels: Tensor
    """Class of each, by the sign and size of its changes, int64 (k,)."""


def flips(exchanges: Sequence[Exchange], lr: float) -> Flips:
    """The changes between consecutive rounds of one batch, without what changes equally in all rounds."""
    rows = []
    for one in exchanges:
        weight, bias = list(one.received.values())[2:4]
        rows.append(torch.cat([weight, bias[:, None]], 1).double() / -lr)
    table = torch.stack(rows)
    gains = table[1:] - table[:-1]
    return Flips(
        gains - gains.median(0).values, torch.stack([list(one.sent.values())[3].double() for one in exchanges])
    )


def read(found: Flips, schema: Schema, sent: Weights, batch: int) -> Seen:
    """The records behind the gains of a batch of so many; only those that the dictionary certifies.

    `sent` are the weights of any of the rounds.
    """
    w1, b1, w2, b2, w3, b3 = (tensor.double() for tensor in sent.values())
    left = found.gains.clone()
    system = _Layer(w1, b1, *_sums(schema))
    least = LEAST * (w3.amax(0) - w3.amin(0)) / batch
    records, labels = torch.zeros(0, schema.width).double(), torch.zeros(0, dtype=torch.int64)
    for _ in range(PASSES):
        round_, unit = (left[:, :, -1].abs() > least).nonzero().T
        rows = left[round_, unit]
        solved, misfit = system.solve(rows[:, :-1] / rows[:, -1:])
        good = (misfit < MISFIT) & certified(schema, solved, SLACK)
        new, sizes, units = list[Tensor](), list[Tensor](), list[int]()
        for place in misfit.where(good, torch.inf).argsort()[: int(good.sum())].tolist():  # the most accurate first
            row = snapped(schema, solved[place : place + 1])
            known = torch.cat([records, *new])
            if not bool(((known - row).abs().amax(1) < SAME).any()):
                new.append(row)
                up = (found.biases[round_[place] + 1, unit[place]] - found.biases[round_[place], unit[place]]).sign()
                sizes.append(rows[place, -1] * up)
                units.append(int(unit[place]))
        if not new:
            break
        taken = torch.cat(new)
        outputs = torch.relu(taken @ w1.T + b1)
        before = outputs @ w2.T
        # the error of each class that the record may have, of which one gives the unit's change
        chances = torch.softmax(torch.relu(before + b2) @ w3.T + b3, 1)
        errors = (chances[:, None] - torch.eye(len(b3)).double()) / batch  # (k, classes, outputs)
        off = ((errors * w3.T[units][:, None]).sum(2) - torch.stack(sizes)[:, None]).abs()
        label = off.argmin(1)
        records, labels = torch.cat([records, taken]), torch.cat([labels, label])
        full = torch.cat([outputs, torch.ones(len(outputs), 1).double()], 1)
        fires = (before + found.biases[:, None] > 0).double()  # (rounds, k, units)
        change = (fires[1:] - fires[:-1]) * (errors[torch.arange(len(label)), label] @ w3)
        left -= change.transpose(1, 2) @ full
    return Seen(records, labels)


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
