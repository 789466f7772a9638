"""Refines slabs over rounds, and claims only what it can prove."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch

from fedinv.attack import Claim, Exchange, Knowledge, Observation, Progress, Sample, nothing
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.models import AnyModel
from fedinv.task.schema import Schema

from ...crafting import cells, first_layer, rounds
from ...crafting.cells import ONE_STEP, OUTSIDE, Grid, Table
from ...crafting.dictionary import bounds
from ...crafting.quantiles import direction, quantiles, samples
from ...crafting.rounds import Layout
from ..grid import scales

SPREAD = 1.0
"""Standard deviation, over records, of the difference of logits in the second round of a layout."""


class Slabs(Deviation):
    """Parallel slabs, a new direction every two rounds, closest where earlier rounds left several records in one.

    Threat model: a malicious server that trains with the same client batch each round (fedsgd, all of a client's
    records). It needs the schema, the architecture and the learning rate. Odd rounds have a constant last layer, so
    that each record of a class sends one known error; even rounds repeat the slabs with another downstream direction,
    in which a record's error is another known number. In two hidden layers category blocks divide slabs as in
    `grid`; in any other number they are units of the first.

    Claims: records of slabs whose two sums have rank 1, that the public dictionary certifies, and whose two errors are
    those that the record must have; what is known is taken out of the slabs of all rounds, and more are certified.

    Paper: HSRA and VGIA (2026), arXiv 2604.15063, slabs refined over rounds with a saturated last layer, and the rank-1
    certificate. Blocks and the listing across rounds are ours: docs/malicious.md.
    """

    kind: Literal["slabs"] = "slabs"
    """Selects this deviation: slabs that are refined over rounds."""
    alike: ClassVar[bool] = False
    looks_back: ClassVar[bool] = True

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network does not begin with a linear layer and ReLU; None where it does."""
        return first_layer.no_relu(model)

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """New slabs, or the last round's with another downstream direction. Raises ValueError where it is unfit."""
        schema = _needed(sent, knows)
        pairs, open_ = _paired([(one, _sent(one)) for one in turn.seen])
        if open_ is not None:
            return _turned(open_, knows, schema, rng)
        drawn, left = samples(schema, knows, rng), (turn.seen[-1].records if turn.seen else knows.batch_size) or 1
        layouts = _layouts(pairs, knows, schema)
        if layouts:
            found = rounds.certify(layouts, schema.width, schema.outputs)
            drawn, left = torch.cat([drawn, found.records]), max(1, left - len(found.records))
            weight = rounds.unknown(layouts, found, drawn).numpy()
            chosen = rng.choice(len(drawn), 10_000, p=weight / weight.sum())
            drawn = drawn[torch.from_numpy(chosen)]
        grid = _empty(sent, schema, knows)
        if len(first_layer.layers(sent)) == 3:
            believed = replace(knows, auxiliary=Sample(drawn, torch.zeros(len(drawn))))
            return cells.weights(cells.aimed(grid, believed, rng), sent)
        count, along = _room(sent), direction(schema, rng)
        part = min(1.0, count / left)  # with more records than slabs, those of the middle are to be alone
        edges = quantiles(drawn @ along, 0.5 + part * (np.arange(count) / count - 0.5))
        edges[0] = OUTSIDE
        return first_layer.constant_behind(sent, along.expand(count, -1), -edges)

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The certified records of all rounds up to the last."""
        try:
            schema = _needed(seen.last.sent, knows)
            layouts = _layouts(_paired([(one, _sent(one)) for one in seen.exchanges])[0], knows, schema)
        except ValueError as error:
            return nothing(str(error))
        if not layouts:
            return nothing("a certificate needs two watched rounds in a row with the same slabs", schema.width)
        found = rounds.certify(layouts, schema.width, schema.outputs)
        count = len(found.records)
        if not count:
            return nothing("no slab holds a record that is certified", schema.width)
        notes = () if count >= seen.last.records else (f"{count} of {seen.last.records} records certified",)
        sure = torch.ones(count, dtype=torch.bool)
        return Claim(found.records.float(), sure.float(), found.labels, None, notes, checked=sure)


@dataclass(frozen=True)
class _Seen:
    """A round with the weights that were sent."""

    exchange: Exchange
    sent: Weights


def _needed(sent: Weights, knows: Knowledge) -> Schema:
    """The schema. Raises ValueError where something that is needed is withheld or unfit."""
    stack, schema = first_layer.layers(sent), knows.schema
    if schema is None or schema.width != stack[0][0].shape[1]:
        raise ValueError("the schema is withheld, or not that of the network's inputs, by which records are certified")
    if schema.image is not None or not first_layer.discrete(schema):
        raise ValueError("the schema has no category and no whole number, by which one record is told from several")
    if schema.outputs < 2 or len(stack[-1][0]) < 2:
        raise ValueError("the network has a single output, and the error of a class is needed")
    if knows.algorithm != "fedsgd" or knows.lr is None:
        raise ValueError("a record's error must be known: fedsgd, with a learning rate that is not withheld")
    return schema


def _sent(exchange: Exchange) -> Weights:
    """What was sent: to a client, or to the first of those that a sum adds up."""
    return next(iter(exchange.sent_to.values()), exchange.sent)


def _room(sent: Weights) -> int:
    """Units of each layer that may be slabs: all but one, which carries the second round's projection.

    Raises ValueError where that leaves no two.
    """
    count = min(len(bias) for _, bias in first_layer.layers(sent)[:-1]) - 1
    if count < 2:
        raise ValueError("a hidden layer has fewer than three units, and two slabs and a projection need three")
    return count


def _empty(sent: Weights, schema: Schema, knows: Knowledge) -> Grid:
    """The grid of one layout, without its projection."""
    stack, count = first_layer.layers(sent), _room(sent)
    if len(stack) == 3:
        return cells.layout(schema, (len(stack[0][1]) - 1, len(stack[1][1]) - 1), 1, scales(knows))
    none = torch.zeros(0, dtype=torch.float64)
    block = torch.zeros(0, schema.width, dtype=torch.float64)
    return Grid(rounds.inputs(schema), (block,), (Table(slice(0, count), 0, none, none, none),), ONE_STEP)


def _filled(sent: Weights, schema: Schema, knows: Knowledge) -> Grid:
    """The grid that weights hold."""
    grid, stack = _empty(sent, schema, knows), first_layer.layers(sent)
    if len(stack) == 3:
        return cells.read_grid(grid, sent)
    (table,), (weight, bias) = grid.tables, stack[0]
    edges = -bias[table.units]
    return replace(grid, tables=(replace(table, along=weight[0], edges=edges, knots=edges[:1]),))


def _carrier(sent: Weights) -> tuple[int, ...]:
    """Unit of each hidden layer that carries the projection."""
    stack = first_layer.layers(sent)[:-1]
    if len(stack) == 2:
        return tuple(len(bias) - 1 for _, bias in stack)
    return (_room(sent),) * len(stack)


def _turned(sent: Weights, knows: Knowledge, schema: Schema, rng: np.random.Generator) -> Weights:
    """The same slabs with a last layer that reads a random projection: errors depend on the record, in a known way."""
    made = {name: tensor.clone() for name, tensor in sent.items()}
    tensors, units = list(made.values()), _carrier(sent)
    along, (low, high) = direction(schema, rng), bounds(schema)
    seen = samples(schema, knows, rng) @ along
    floor = float(torch.minimum(along * low, along * high).sum()) - 0.1
    tensors[0][units[0]], tensors[1][units[0]] = along.float(), -floor
    for place, (before, unit) in enumerate(pairwise(units), 1):
        weight, bias = tensors[2 * place : 2 * place + 2]
        weight[unit] = 0.0
        weight[unit, before], bias[unit] = 1.0, 0.0
    slope = SPREAD / max(1e-6, float(seen.std())) / 2
    last, bias = tensors[-2:]
    last[0, units[-1]], last[1, units[-1]] = -slope, slope
    bias[0] += 2 * slope * (float(seen.mean()) - floor)
    return made


def _paired(
    seen: Sequence[tuple[Exchange, Weights]],
) -> tuple[list[tuple[_Seen, _Seen]], Weights | None]:
    """Rounds that have the same slabs, two by two, and the weights of the last round where it has no second one."""
    pairs, open_ = list[tuple[_Seen, _Seen]](), None
    for exchange, sent in seen:
        one = _Seen(exchange, sent)
        turned = bool(next(iter(sent.values()))[_carrier(sent)[0]].any())
        if turned and open_ is not None and _same_slabs(open_.sent, sent):
            pairs.append((open_, one))
        open_ = None if turned else one
    return pairs, None if open_ is None else open_.sent


def _same_slabs(one: Weights, other: Weights) -> bool:
    """Whether two rounds' weights agree in all units of the first layer but that of the projection."""
    unit = _carrier(one)[0]
    first, second = list(one.values())[:2], list(other.values())[:2]
    rows = torch.arange(len(first[1])) != unit
    return all(torch.equal(a[rows], b[rows]) for a, b in zip(first, second, strict=True))


def _layouts(pairs: Sequence[tuple[_Seen, _Seen]], knows: Knowledge, schema: Schema) -> list[Layout]:
    """The cells of each two rounds."""
    return [
        rounds.layout(
            _filled(one.sent, schema, knows),
            1 if len(first_layer.layers(one.sent)) == 3 else 0,
            (replace(one.exchange, sent=one.sent), replace(two.exchange, sent=two.sent)),
            knows,
        )
        for one, two in pairs
    ]
