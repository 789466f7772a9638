"""Reads the entries of a first layer's update one by one: which moved, and which moved equally.

Entry (j, i) of the first layer, unit j and one-hot input i, has at every local step the gradient sum of d_rj over the
records r of category i at which unit j is active, d_rj being the slope at the unit. An optimizer that works entry by
entry turns equal gradients into equal changes, and gradients of zero into the change that it makes without any. So:

1. an entry that did not move is one whose category no record has at which the unit is active (but for sums that
   cancel to the last bit);
2. two entries of a unit that moved by the same amount have the same records behind them (but for coincidences, whose
   chance is the spacing of float32 numbers over the spread of the changes), and so have two of which each is the only
   one of its column that moved: all records at which the unit is active.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge
from fedinv.task.columns import Categorical
from fedinv.task.optimizers import Memory
from fedinv.task.schema import Schema

from ..local_training import local_steps

ULP = 2.0**-23
"""Spacing of float32 numbers, relative to them, at most."""
SPACINGS = 1.5
"""Two entries moved equally if they differ by at most this many spacings of the weights' float32 numbers times the root
of the number of steps, each of which rounds."""
RELATIVE = 3e-7
"""Distance up to which two changes are equal, relative to them, as they are computed in float32."""
MOVES = 0.004
"""Change of a unit's pre-activation over one local step of an adaptive optimizer at learning rate 0.001, relative to
the length of the unit's weights, up to which signs at the sent weights are not held against a record. It grows with the
root of the number of steps and with the learning rate."""
AROUND = 30.0
"""Rooms on each side of an entry's size within which the entries of all units are counted."""
COINCIDENCES = 0.05
"""Entries of a unit that are expected within an entry's room by chance, from which on being equal says nothing."""
LARGEST = 2**27
"""Most numbers in a table of all pairs of categories at all units."""


@dataclass(frozen=True)
class Entries:
    """The categorical entries of a first layer's update, with the weights that were sent, float64."""

    weight: Tensor
    """Weight of the first layer as sent, (h, d)."""
    bias: Tensor
    """Bias of the first layer as sent, (h,)."""
    categories: Tensor
    """Inputs of the one-hot columns, int64 (c,)."""
    group: Tensor
    """Number of the column that each of them belongs to, int64 (c,)."""
    frequencies: Tensor
    """Published share of each category, (c,)."""
    numbers: Tensor
    """Inputs that are numbers, int64 (m,)."""
    low: Tensor
    """Least value of each number, standardized, (m,)."""
    high: Tensor
    """Largest value of each number, standardized, (m,)."""
    change: Tensor
    """Change of each entry beside what decay alone made, (h, c)."""
    room: Tensor
    """Distance up to which two changes count as equal, (h, c)."""
    moved: Tensor
    """Entries that moved, bool (h, c)."""
    resting: Tensor
    """Entries that no record reached, bool (h, c); neither this nor moved where the entry was withheld."""
    equal: Tensor
    """Pairs of entries of a unit that moved equally, bool (h, c, c); of an entry and itself where it moved."""
    margin: Tensor
    """Distance of a pre-activation from zero, in its own unit, up to which its sign may have changed in training,
    (h,)."""

    @property
    def groups(self) -> int:
        """Number of categorical columns."""
        return int(self.group.max()) + 1 if len(self.group) else 0

    @property
    def length(self) -> Tensor:
        """Length of each unit's weights, (h,), by which distances from half-spaces are measured."""
        length: Tensor = self.weight.norm(dim=1).clamp_min(1e-30)
        return length

    def units(self, tuples: Tensor, numbers: Tensor) -> Tensor:
        """Pre-activations (k, h) at the sent weights of records of these categories (k, g) and numbers (k, m)."""
        hot = self.weight[:, self.categories[tuples]].sum(2).T
        return numbers @ self.weight[:, self.numbers].T + hot + self.bias

    def records(self, tuples: Tensor, numbers: Tensor) -> Tensor:
        """Records (k, d) of these categories (k, g) and numbers (k, m)."""
        found = self.weight.new_zeros(len(tuples), self.weight.shape[1])
        found.scatter_(1, self.categories[tuples], 1.0)
        found[:, self.numbers] = numbers
        return found


def read_entries(last: Exchange, knows: Knowledge, schema: Schema, known: Tensor | None = None) -> Entries:
    """Read the first layer of an exchange; `known` (h, d) are the entries that tell of the gradient, None for all.

    Raises ValueError, in the words of a note, where the layer is none of a table with categorical columns, or where the
    optimizer's own change of an entry without gradient cannot be separated from one with.
    """
    (weight, change), (bias, _) = [(last.sent[n].double(), last.received[n].double()) for n in list(last.sent)[:2]]
    if weight.ndim != 2 or weight.shape[1] != schema.width:
        raise ValueError("the schema does not fit the network's inputs")
    spans = [s for c, s in zip(schema.columns, schema.slices, strict=True) if isinstance(c, Categorical)]
    if not spans:
        raise ValueError("no column is categorical: only of a category do entries rest where no record has it")
    shares = [f for c in schema.columns if isinstance(c, Categorical) for f in c.frequencies]
    numbers = [(s.start, c) for c, s in zip(schema.columns, schema.slices, strict=True) if c.kind == "continuous"]
    categories = torch.cat([torch.arange(s.start, s.stop) for s in spans])
    if len(weight) * len(categories) ** 2 > LARGEST:
        raise ValueError(f"{len(categories)} categories at {len(weight)} units are too many to compare in pairs")
    steps = local_steps(knows, last.records) or 1
    change = change - idle(weight, knows, steps)
    spacing = ULP * (weight + change).abs() * (0.0 if lossless(last) else 1.0)
    room = (SPACINGS * spacing * math.sqrt(steps) + RELATIVE * change.abs())[:, categories]
    change = change[:, categories]
    # without decay an entry that was left alone is a zero to the last bit
    moved = change != 0 if not knows.weight_decay and not knows.proximal else change.abs() > 2 * room
    resting = ~moved
    if known is not None:
        moved, resting = moved & known[:, categories], resting & known[:, categories]
    group = torch.cat([torch.full((s.stop - s.start,), k) for k, s in enumerate(spans)])
    length = weight.norm(dim=1)
    return Entries(
        weight=weight,
        bias=bias,
        categories=categories,
        group=group,
        frequencies=torch.tensor(shares, dtype=torch.float64),
        numbers=torch.tensor([at for at, _ in numbers], dtype=torch.int64),
        low=torch.tensor([(c.low - c.mean) / c.std for _, c in numbers], dtype=torch.float64),
        high=torch.tensor([(c.high - c.mean) / c.std for _, c in numbers], dtype=torch.float64),
        change=change,
        room=room,
        moved=moved,
        resting=resting,
        equal=_equal(change, room, moved, group) | single(moved, resting, group),
        margin=drift(knows, steps - 1) * length,
    )


def drift(knows: Knowledge, before: int) -> float:
    """Distance from zero, in lengths of a unit's weights, up to which its sign may differ `before` steps later."""
    return MOVES * math.sqrt(min(before + 1, 10)) * (knows.lr or 0.001) / 0.001 if before else 0.0


def lossless(last: Exchange) -> bool:
    """Whether an update is a product, not a difference of float32 weights, which would lose digits."""
    sent, change = next(iter(last.sent.values())), next(iter(last.received.values()))
    return not bool(((sent + change) - sent == change).all())


def idle(weight: Tensor, knows: Knowledge, steps: int) -> Tensor:
    """Change of weights without any gradient: what decay alone does to them, by the optimizer's own steps."""
    if knows.lr is None or not knows.weight_decay:
        return torch.zeros_like(weight)
    descent = replace(knows.descent, proximal=0.0)
    at, memory = [weight], Memory()
    for lr in descent.lrs(steps):
        direction, memory = descent.direction([torch.zeros_like(weight)], at, [weight], memory)
        at = [at[0] - lr * direction[0]]
    return at[0] - weight


def _equal(change: Tensor, room: Tensor, moved: Tensor, group: Tensor) -> Tensor:
    """Which entries of a unit moved equally: neighbors in size within their room, and all that they link.

    Two categories of a column cannot have the same records: entries among which two are of a column are equal by
    coincidence, and none of them counts as equal. Nor do those of a size that so many entries have that coincidences
    are to be expected, as where one step of an adaptive optimizer is the learning rate to the last digits.
    """
    order = change.argsort(1)
    size, width = change.gather(1, order), room.gather(1, order)
    apart = torch.ones_like(moved)
    apart[:, 1:] = size.diff(dim=1) > torch.maximum(width[:, 1:], width[:, :-1])
    label = torch.zeros_like(order).scatter(1, order, apart.cumsum(1))
    pair = (label[:, :, None] == label[:, None, :]) & moved[:, :, None] & moved[:, None, :]
    itself = torch.eye(len(group), dtype=torch.bool)
    doubtful = (pair & (group[:, None] == group) & ~itself).any(2) | (_expected(change, room, moved) > COINCIDENCES)
    doubtful = (pair & doubtful[:, None, :]).any(2)
    return (pair & ~doubtful[:, :, None] & ~doubtful[:, None, :]) | (itself & moved[:, :, None])


def single(moved: Tensor, resting: Tensor, group: Tensor) -> Tensor:
    """Entries that are the only ones of their column to move at a unit, in pairs, bool (h, c, c).

    All records at which the unit is active then have that category, whatever the sizes of the changes, so that such
    entries of different columns have the same records. An entry of which neither is known may have moved.
    """
    columns = torch.nn.functional.one_hot(group).double()
    alone = moved & (((~resting).double() @ columns)[:, group] == 1)
    return alone[:, :, None] & alone[:, None, :]


def _expected(change: Tensor, room: Tensor, moved: Tensor) -> Tensor:
    """Expected number of a unit's entries that are within an entry's room by chance, by all units' sizes, (h, c)."""
    sizes = change[moved].abs().sort().values
    near = torch.searchsorted(sizes, (change.abs() + AROUND * room).contiguous())
    near -= torch.searchsorted(sizes, (change.abs() - AROUND * room).contiguous())
    return near / (2 * AROUND * len(moved))
