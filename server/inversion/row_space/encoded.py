"""Records behind an encoding of their categories: searched in the spans of a network's first two linear layers.

Where the first linear layer is fed z = E x + c, affine in the one-hot encoding x of a record, every equation on z is
one on x: a z + b = 0 is (a E) x + (a c + b) = 0. So the search for valid records in the spans is that of one-hot
inputs, and looks each category up in its embedding table by choosing among the rows: among those alone whose update is
not zero, as no other category was in the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from fedinv.attack import Claim, Exchange, Knowledge, Progress
from fedinv.task.columns import Categorical, Column, Continuous
from fedinv.task.loss import loss
from fedinv.task.networks.beginning import Beginning, Layer
from fedinv.task.schema import Schema

from ..activations import Activation
from ..exact.first_layer import ROUNDING
from ..local_training import decay, gradient_weights, known_network, local_steps, single_step
from ..recompute import explains, mismatch, recompute_update
from ..support.magnitudes import FirstStep, first_step, smoothed
from .local_search import Block, Equations, input_kinds
from .search import DRIFTED, EXACT, Aim, FoundRecords, Precision, SpanBudget, Wanted, find
from .slopes import CLEARLY, DECOYS
from .spans import Span, span

SPARE = 4
"""Equations required beyond the number of a record's unknown numbers: with fewer, wrong records would fulfill them."""
DRIFT = 2
"""After several local steps each record contributes up to this many directions to the second layer's span."""
ROOM = 0.7
"""Largest share of the second layer's units that the span may fill after several local steps."""
COARSE = 30.0
"""Noise, in multiples of float32 rounding, from which on an update does not count as exact."""
ABSENT = 1e-5
"""Share of the largest update of a column's values below which a value's counts as zero: no record has it."""
COORDINATES = 20_000
"""Parameters, drawn at random, whose update tells the records' labels."""
OUTSIDE = 1e-3
"""Largest share of the length of a record's slopes outside the column space of an exact update."""
SURPLUS = 8
"""Equations beyond those that determine a record's numbers from which on its categories count as decided."""
ALIKE = 1e-3
"""Distance up to which two records count as one."""
DECIDED = 1e-3
"""Share of the largest singular value from which on a direction counts as determined."""
FAR = 10.0
"""Standard deviations that bound a number whose range is withheld."""


@dataclass(frozen=True)
class Encoded:
    """An exchange's equations on the records whose categories are among those that are present."""

    equations: Equations
    """Equations on records without the inputs of absent categories, (d',)."""
    first: Span
    """Span of the first layer's update, on its own inputs z."""
    later: Span | None
    """Span of the second layer's update, on its own inputs; None where it has no equations."""
    present: Tensor
    """Inputs of the record whose category is present, and numbers: positions, int64 (d',)."""
    schema: Schema
    """Schema of the records with the categories that are present alone."""
    matrix: Tensor
    """Linear part of z (w, d')."""
    shift: Tensor
    """Constant part of z, (w,)."""
    precision: Precision
    single: bool
    """Whether the client took a single step on all its records."""
    one: float
    """Number that stands for the bias behind the first layer's inputs: 1, or 0 where it has none."""

    def inputs(self, records: Tensor) -> Tensor:
        """The first layer's inputs with `one` appended, (k, w + 1), of records (k, d')."""
        z = records @ self.matrix.T + self.shift
        return torch.cat([z, torch.full_like(z[:, :1], self.one)], 1)

    def full(self, records: Tensor, width: int) -> Tensor:
        """Records (k, d') with the inputs of absent categories, (k, width)."""
        made = records.new_zeros(len(records), width)
        made[:, self.present] = records
        return made


def read_encoded(
    last: Exchange, knows: Knowledge, noise: float, budget: SpanBudget, rng: np.random.Generator, progress: Progress
) -> Claim:
    """Claim the records in the spans of an update whose first linear layer is fed by a known map of the record.

    `noise` is the standard deviation of known noise on each number of the update. Raises ValueError with the reason
    where it cannot be read.
    """
    model = knows.model
    if model is None:
        raise ValueError("the architecture is withheld")
    _check(last)
    single = local_steps(knows, last.records) == 1
    steps = local_steps(knows, last.records) or 2
    weights = gradient_weights(last, single, torch.float64)
    plain, read = _plain(last, knows, single)
    update = {**plain, **_buffers(last)}
    begun = model.beginning(weights, update, steps, last.records)
    if begun is None:
        raise ValueError("of this network no equations on single records are known")
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    lossless = knows.algorithm == "fedsgd"
    seen = _encoded(begun, update, knows, _Setting(last.records, single, lossless, noise, read), generator)
    network = known_network(model, weights, knows.schema).eval()  # used where each record passes by itself

    def believe(records: Tensor) -> Tensor:
        # sums of differences of records may be valid records in the first layer's span as well, and where the second
        # one's is not known only their slopes tell
        exact = (
            seen.later is None
            and seen.precision is EXACT
            and begun.apart
            and not begun.random
            and knows.loss != "squared-error"
        )
        if not len(records) or not exact or seen.first.rank >= min(len(seen.first.left), seen.first.right.shape[1]):
            return torch.ones(len(records), dtype=torch.bool)
        return _outside(network, seen.full(records, begun.matrix.shape[1]), seen.first, begun) < OUTSIDE

    found = find(_wanted(seen, last.records, believe, rng), budget, progress)
    if not len(found.records):
        raise ValueError("no record was found in the spans of the update")
    if seen.precision is EXACT and seen.later is None:
        found = _refined(found, seen)
    return _claim(found, seen, begun, replace(last, received=update), (last, knows), rng)


def _plain(last: Exchange, knows: Knowledge, single: bool) -> tuple[dict[str, Tensor], FirstStep | None]:
    """The update as SGD without weight decay would have made it, float64, and the form of an optimizer's single step.

    Raises ValueError for several steps of an optimizer that scales each entry of them by itself.
    """
    changes = {name: tensor.double() for name, tensor in last.received.items()}
    sent = {name: tensor.double() for name, tensor in last.sent.items()}
    if knows.adaptive is None:
        shrunk = decay(knows, last.records)
        return {name: tensor - shrunk * sent[name] for name, tensor in changes.items()}, None
    held = knows.weight_decay or 0.0
    if not single or (held and not (knows.optimizer is not None and knows.optimizer.decoupled)):
        raise ValueError(knows.adaptive)
    step = first_step(replace(knows, weight_decay=0.0).descent)
    kept = step.lr * held
    gradients = {name: step.gradient(tensor + kept * sent[name]) for name, tensor in changes.items()}
    return {name: -step.lr * gradient for name, gradient in gradients.items()}, step


@dataclass(frozen=True)
class _Setting:
    records: int
    single: bool
    lossless: bool
    noise: float
    read: FirstStep | None
    """Form of the optimizer's step that the gradients were read off; None where the update is one of SGD."""

    @property
    def exact(self) -> bool:
        """Whether the update is a gradient up to float32 rounding."""
        return self.lossless and self.read is None

    def layer(self, update: dict[str, Tensor], one: Layer) -> Tensor:
        """A layer's update with that of its bias as last column, zeros where it has none, (outputs, inputs + 1)."""
        weight = update[one.weight]
        column = torch.zeros_like(weight[:, 0]) if one.bias is None else update[one.bias]
        made = torch.cat([weight, column[:, None]], 1)
        if self.read is None or self.records >= min(weight.shape) or not bool(made.any()):
            return made
        # the largest gradients were read off worst, and would bury what the smaller ones tell
        given = made if one.bias is not None else made[:, :-1]
        spread = self.read.lr * self.read.spread(given / self.read.lr)
        made[:, : given.shape[1]] = smoothed(given, spread, self.records)
        return made


def _check(last: Exchange) -> None:
    if sorted(last.sent) != sorted(last.received) or any(
        last.sent[n].shape != t.shape for n, t in last.received.items()
    ):
        raise ValueError("the update does not have the parameters that were sent, as if it were masked or compressed")
    tensors = (*last.sent.values(), *last.received.values())
    if not all(bool(torch.isfinite(t).all()) for t in tensors):
        raise ValueError("the update or the model holds values that are not finite")
    sizes = [
        math.sqrt(sum(float(t.double().square().sum()) for t in side.values())) for side in (last.sent, last.received)
    ]
    if sizes[1] > 100 * max(1.0, sizes[0]):
        raise ValueError("the update is far larger than the model, as if it were masked")
    if not sizes[1]:
        raise ValueError("the update is zero")


def _buffers(last: Exchange) -> dict[str, Tensor]:
    """The changes of running statistics, which no weight decay moves."""
    return {n: t.double() for n, t in last.received.items() if n.rpartition(".")[2].startswith("running_")}


def _encoded(
    begun: Beginning, update: dict[str, Tensor], knows: Knowledge, setting: _Setting, generator: torch.Generator
) -> Encoded:
    schema = knows.schema or _stand_in(begun)
    if schema.width != begun.matrix.shape[1]:
        raise ValueError("the schema does not fit the network's inputs")
    schema, present = _present(schema, begun)
    matrix, n = begun.matrix[:, present], setting.records
    moved = setting.layer(update, begun.first)
    if not begun.apart and begun.center is None:
        raise ValueError(
            "the batch normalization leaves differences between records alone in the span, and its layer has too few "
            "units to tell the batch's mean"
        )
    if begun.center is not None:
        # behind a normalization over the batch the rows are differences of records: one of them, with its 1, is added
        moved[:, -1] = 0
        row = torch.cat([begun.center, begun.center.new_ones(1)])
        moved = torch.cat([moved, row[None] * (moved.norm() / row.norm())])
    if not bool(moved.any()):
        raise ValueError("the first layer's update is zero")
    padded = begun.first.bias is None and begun.center is None
    second: Span | None = None
    first = _span(moved, n, setting.noise, generator, padded)
    unit = ROUNDING * float(moved.square().mean().sqrt())
    exact = setting.exact and setting.noise < COARSE * unit
    at_inputs = first.equations if len(moved) >= n else first.equations[:0]
    weight, bias, activation, behind = matrix, begun.shift, "leaky-relu", at_inputs.new_zeros(0, len(matrix) + 1)
    if begun.units is not None and begun.second is not None and begun.activation in get_args(Activation):
        later = setting.layer(update, begun.second)
        rank = n if setting.single else min(DRIFT * n, int(ROOM * later.shape[1]))
        if min(later.shape) >= n and bool(later.any()):
            weight, bias = begun.units[0] @ matrix, begun.units[0] @ begun.shift + begun.units[1]
            activation = begun.activation
            second = _span(later, rank, setting.noise, generator, begun.second.bias is None)
            behind = second.equations
    if not first.rank:
        raise ValueError("the update does not stand above the noise in it")
    kinds = input_kinds(schema, schema.width)
    free, numbers = len(at_inputs) + len(behind), len(kinds.numbers)
    if free < numbers + SPARE:
        raise ValueError(
            f"the update's spans leave {free} equations for the {numbers} numbers of a record: too many records for "
            "the network's width"
        )
    empty = at_inputs.new_zeros(0, len(present) + 1)
    blocks = (
        Block(_on_records(at_inputs, matrix, begun.shift), empty),
        Block(behind, behind.new_zeros(0, len(weight) + 1)),
    )
    equations = Equations(weight, bias, activation, *blocks)  # type: ignore[arg-type]
    precision = EXACT if exact else DRIFTED
    return Encoded(
        equations, first, second, present, schema, matrix, begun.shift, precision, setting.single, float(not padded)
    )


def _span(update: Tensor, records: int, noise: float, generator: torch.Generator, unbiased: bool) -> Span:
    """The span of a layer's update, whose last column is left out and zero in the span where it has no bias."""
    if not unbiased:
        return span(update, records, noise, generator)
    found = span(update[:, :-1], records, noise, generator)
    right, equations = (torch.cat([t, torch.zeros_like(t[:, :1])], 1) for t in (found.right, found.equations))
    return replace(found, right=right, equations=equations)


def _on_records(rows: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Equations (m, w + 1) on a layer's inputs as equations (m, d' + 1) on records."""
    return torch.cat([rows[:, :-1] @ matrix, (rows[:, :-1] @ shift + rows[:, -1])[:, None]], 1)


def _stand_in(begun: Beginning) -> Schema:
    """A schema of which the network's own columns are all that is known."""
    columns: list[Column] = [
        Categorical(
            name=f"input {where.start}",
            values=tuple(map(str, range(where.stop - where.start))),
            frequencies=tuple([1.0] * (where.stop - where.start)),
        )
        if categorical
        else Continuous(name=f"input {where.start}", mean=0, std=1, low=-FAR, high=FAR, mode=0)
        for where, categorical in begun.widths
    ]
    return Schema(columns=tuple(columns), label="label", classes=("0", "1"))


def _present(schema: Schema, begun: Beginning) -> tuple[Schema, Tensor]:
    """The schema without the categories that no record has, and the inputs (d',) that are left."""
    columns, kept = list[Column](), list[int]()
    for column, where, used in zip(schema.columns, schema.slices, begun.uses, strict=True):
        there = list(range(where.stop - where.start))
        if isinstance(column, Categorical) and used is not None:
            size = used.double().norm(dim=0)
            there = (size > ABSENT * size.max()).nonzero()[:, 0].tolist() or there
            column = column.model_copy(
                update={
                    "values": tuple(column.values[i] for i in there),
                    "frequencies": tuple(max(column.frequencies[i], 1e-6) for i in there),
                }
            )
        columns.append(column)
        kept += [where.start + i for i in there]
    # made anew, as a copy would keep the slices of all columns
    left = Schema(columns=tuple(columns), label=schema.label, classes=schema.classes, target=schema.target)
    return left, torch.tensor(kept)


def _wanted(seen: Encoded, records: int, believe: Callable[[Tensor], Tensor], rng: np.random.Generator) -> Wanted:
    def aim(known: Tensor, idle: int) -> Aim:
        behind = seen.later is not None
        rows, vectors = seen.first.right[:records], seen.inputs(known)
        if seen.later is not None:
            hidden = seen.equations.hidden(known)
            rows = seen.later.right[:records]
            vectors = torch.cat([hidden, torch.full_like(hidden[:, :1], float(bool(rows[:, -1].any())))], 1)
        basis = torch.linalg.qr(vectors.T).Q
        rest = torch.linalg.svd(rows - (rows @ basis) @ basis.T, full_matrices=False)[2]
        left = rest[: max(1, len(rows) - len(known))]
        if behind:
            return Aim(replace(seen.equations, at_hidden=Block(seen.equations.at_hidden.equations, left)), believe)
        left = _on_records(left, seen.matrix, seen.shift)
        return Aim(replace(seen.equations, at_inputs=Block(seen.equations.at_inputs.equations, left)), believe)

    return Wanted(
        seen.equations,
        aim,
        lambda count: seen.schema.draw(count, rng),
        input_kinds(seen.schema, seen.schema.width),
        records,
        seen.precision,
    )


def _claim(
    found: FoundRecords,
    seen: Encoded,
    begun: Beginning,
    plain: Exchange,
    given: tuple[Exchange, Knowledge],
    rng: np.random.Generator,
) -> Claim:
    """The claim of the records that were found; `plain` is the exchange as SGD would have made it."""
    last, knows = given
    records, notes = seen.full(found.records, begun.matrix.shape[1]), list[str]()
    if len(records) < last.records:
        notes.append(f"{len(records)} of {last.records} records recovered")
    if not seen.single:
        notes.append("several local steps blur the spans: numbers are approximate")
    confidence = (1 - found.misfit).float().clamp(0, 1)
    claim = Claim(records.float(), confidence, None, None, tuple(notes))
    if knows.loss == "squared-error":
        return claim
    assert knows.model is not None  # checked before
    network = known_network(knows.model, gradient_weights(last, seen.single), knows.schema)
    # random masks cannot be drawn again: labels are those of the network without them
    network.train(not (begun.random or begun.apart))
    claim = replace(claim, labels=_labels(network, records.float(), plain, rng))
    if begun.random:
        return replace(claim, notes=(*notes, "random units are left out in training: the claim is not trained again"))
    if begun.apart:
        drawn = seen.full(seen.schema.draw(DECOYS, rng), records.shape[1])
        near = _apart(network, records.float(), drawn, seen.first, begun) < CLEARLY
        if seen.precision is EXACT:
            near &= _outside(network, records, seen.first, begun) < OUTSIDE
        claim = replace(claim, checked=near)
    return _compared(claim, last, knows, rng)


def _refined(found: FoundRecords, seen: Encoded) -> FoundRecords:
    """The records, each category changed for one that fits better, and numbers solved for, as long as that helps.

    Rows of a narrow table may nearly coincide, and the search then takes either. With the numbers projected out the
    equations on the first layer's inputs tell them apart to float32's rounding.
    """
    rows = seen.equations.at_inputs.equations
    kinds = input_kinds(seen.schema, seen.schema.width)
    numbers = rows[:, kinds.numbers]
    if len(rows) < len(kinds.numbers) + SURPLUS:
        return found
    left, sizes, _ = torch.linalg.svd(numbers, full_matrices=False)
    if len(sizes) and float(sizes.min()) < DECIDED * float(sizes.max()):
        return found  # records of the same categories span a line of valid ones
    basis = left
    aside = rows - basis @ (basis.T @ rows)  # on categories alone
    records = found.records.clone()
    for _ in range(len(kinds.groups)):
        rest = records @ aside[:, :-1].T + aside[:, -1]
        best, changed = rest.square().sum(1), records.clone()
        for group in kinds.groups:
            without = rest - records[:, group] @ aside[:, group].T
            each = (without[:, None] + aside[:, group].T).square().sum(-1)
            value, which = each.min(1)
            better = value < best
            trial = records.clone()
            trial[:, group] = torch.nn.functional.one_hot(which, group.stop - group.start).to(trial)
            changed = torch.where(better[:, None], trial, changed)
            best = torch.where(better, value, best)
        if torch.equal(changed, records):
            break
        records = changed
    records[:, kinds.numbers] = 0
    wanted = -(records @ rows[:, :-1].T + rows[:, -1])
    records[:, kinds.numbers] = (torch.linalg.pinv(numbers, rtol=1e-9) @ wanted.T).T
    misfit = seen.equations.misfit(records)
    # what the change did not help is left as it was
    records = torch.where((misfit < seen.equations.misfit(found.records))[:, None], records, found.records)
    misfit = seen.equations.misfit(records)
    order = misfit.argsort()
    near = torch.cdist(records[order], records[order]) < ALIKE
    first = ~(near & torch.ones_like(near).tril(-1)).any(1)
    order = order[first]
    return FoundRecords(records[order], misfit[order] / seen.precision.accept)


def _labels(network: nn.Sequential, records: Tensor, last: Exchange, rng: np.random.Generator) -> Tensor:
    """Labels int64 (k,) with which the records' gradients together explain the update, each with a weight >= 0.

    As `attribution.attribute`, for any network: gradients of COORDINATES parameters drawn at random are compared.
    """
    from scipy.optimize import nnls

    named = dict(network.named_parameters())
    logits = network(records)
    classes = logits.shape[1]
    total = sum(weight.numel() for weight in named.values())
    chosen = torch.from_numpy(rng.permutation(total)[:COORDINATES].astype(np.int64))
    columns = []
    for i in range(len(records)):
        for c in range(classes):
            one = loss(logits[i : i + 1], torch.tensor([c]))
            slopes = torch.autograd.grad(one, list(named.values()), retain_graph=True)
            columns.append(torch.cat([slope.flatten() for slope in slopes])[chosen])
    matrix = torch.stack(columns, 1).double()
    toward = -torch.cat([last.received[name].double().flatten() for name in named])[chosen]
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:, None] * right
    weights = nnls(root.numpy(), (left.T @ toward).numpy(), maxiter=30 * len(columns))[0]
    return torch.from_numpy(weights.reshape(len(records), classes).argmax(1))


def _apart(network: nn.Sequential, records: Tensor, decoys: Tensor, first: Span, begun: Beginning) -> Tensor:
    """Distance (k,) of the records' slopes from the first layer's column space, relative to the decoys' least one."""
    if first.rank >= min(len(first.left), first.right.shape[1]):
        return torch.full((len(records),), math.inf)
    return _outside(network, records, first, begun) / _outside(network, decoys, first, begun).min()


def _outside(network: nn.Sequential, records: Tensor, first: Span, begun: Beginning) -> Tensor:
    """Share (k,) of the length of each record's slopes outside the first layer's column space, with the best label."""
    outputs: list[Tensor] = []
    layer = network.get_submodule(begun.first.weight.rpartition(".")[0])
    handle = layer.register_forward_hook(lambda _, __, made: outputs.append(made))
    with torch.enable_grad():
        logits = network(records.to(next(network.parameters()).dtype))
        handle.remove()
        shares = []
        for c in range(logits.shape[1]):
            value = loss(logits, torch.full((len(records),), c), "sum")
            (slopes,) = torch.autograd.grad(value, outputs, retain_graph=True)
            shares.append(first.outside(slopes.double()))
    return torch.stack(shares).amin(0)


def _compared(claim: Claim, last: Exchange, knows: Knowledge, rng: np.random.Generator) -> Claim:
    """The claim with the mismatch of the update that it gives, and all of it checked if that explains the one seen.

    None of it is where a whole batch, trained on again in one step, does not explain it: some record or label is wrong.
    """
    if claim.labels is None:
        return claim
    trained = {name: t for name, t in last.received.items() if not name.rpartition(".")[2].startswith("running_")}
    try:
        update = recompute_update(knows, last.sent, claim.records, claim.labels, rng, count=last.records)
    except ValueError:
        return claim
    left = mismatch(update, trained)
    if explains(left, knows, last.records):
        claim = replace(claim, checked=torch.ones(len(claim.records), dtype=torch.bool))
    elif len(claim.records) == last.records and single_step(knows, last.records):
        claim = replace(claim, checked=torch.zeros(len(claim.records), dtype=torch.bool))
    return replace(claim, mismatch=left)
