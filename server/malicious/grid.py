"""Lists the records of a whole secure sum out of cells."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Claim, Exchange, Knowledge, Observation, Progress, nothing
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.models import AnyModel
from fedinv.task.networks.perceptron import Mlp

from ..crafting import cells, peeling
from ..crafting.cells import LOCAL_STEPS, ONE_STEP, Grid, Scales

LARGEST = 8.0
"""Gain times the step's length: the largest entry of an update of 64 records is half of it, within what Flower's
SecAgg+ takes by default; that of 8 records is up to twice it, which clients refuse unless `clipping_range` is wider."""


class CellGrid(Deviation):
    """Slabs of the second hidden layer by category blocks of the first: every record in one cell of each table.

    Threat model: a malicious server that sends all clients of a round the same weights, of the agreed architecture, so
    that they have nothing to compare. It needs the schema, with a category at least, and the architecture, a perceptron
    with two hidden layers and ReLU; auxiliary records make the slabs more even. One round and the sum of its updates
    suffice.

    Claims: records that the public dictionary certifies to be single ones, with labels where there are two classes. How
    many can be kept apart follows from the cells, slabs times blocks: docs/malicious.md.

    Derivation: docs/malicious.md, The grid. Peeling is Goodrich and Mitzenmacher (2011), Invertible Bloom lookup
    tables, section 3; slabs by biases are Fowl et al. (2022), Robbing the Fed.
    """

    kind: Literal["grid"] = "grid"
    """Selects this deviation: a grid of cells, listed by peeling."""
    tables: int = Field(default=3, ge=1, le=8)
    """Projections, each of which spreads all records over slabs of its own, 1 to 8; with more, slabs are wider."""
    alike: ClassVar[bool] = True

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network is none with two hidden layers and ReLU; None where it is."""
        return two_layers(model)

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The grid. Raises ValueError where schema or architecture are withheld, or a layer is too narrow."""
        return cells.weights(cells.aimed(laid_out(sent, knows, self.tables), knows, rng), sent)

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records that the cells hold."""
        try:
            grid = laid_out(seen.last.sent, knows, self.tables)
        except ValueError as error:
            return nothing(str(error))
        sent = next(iter(seen.last.sent_to.values()), seen.last.sent)
        return listed(cells.read_grid(grid, sent), replace(seen.last, sent=sent), knows)


def two_layers(model: AnyModel) -> str | None:
    """Why a model is no perceptron of two hidden layers with ReLU, as a clause; None where it is."""
    if not isinstance(model, Mlp):
        return f"the model {model.kind!r} is no perceptron with hidden layers"
    if len(model.hidden) != 2:
        return f"the network has {len(model.hidden)} hidden layers, and two are needed"
    if model.activation != "relu":
        return f"the activation is {model.activation}, and with ReLU alone a unit can be silent"
    return None


def scales(knows: Knowledge) -> Scales:
    """Sizes of the weights that suit one step, or local steps."""
    if knows.algorithm != "fedsgd":
        return LOCAL_STEPS
    return replace(ONE_STEP, gain=LARGEST / (knows.lr or 1.0))


def laid_out(sent: Weights, knows: Knowledge, tables: int, rows: slice | None = None) -> Grid:
    """The grid for weights like these, without projections. Raises ValueError where it cannot be made."""
    if knows.schema is None:
        raise ValueError("the schema is withheld, by which single records are told from sums")
    matrices = [tensor for tensor in sent.values() if tensor.ndim == 2]
    if knows.schema.image is not None or len(matrices) != 3 or matrices[0].shape[1] != knows.schema.width:
        raise ValueError("the network is no perceptron with two hidden layers over the schema's columns")
    if len(matrices[-1]) < 2:
        raise ValueError("the network has a single output, and the error of a class is needed")
    return cells.layout(knows.schema, (len(matrices[0]), len(matrices[1])), tables, scales(knows), rows)


def listed(grid: Grid, last: Exchange, knows: Knowledge) -> Claim:
    """The claim of the records in a grid's cells."""
    update = [tensor for tensor in last.received.values() if tensor.ndim == 2][1]
    errors = cells.errors(grid, last.sent, last.records) if knows.algorithm == "fedsgd" and knows.lr else None
    found = peeling.peel(grid, cells.sums(grid, update, knows.lr or 1.0), errors)
    if not len(found.records):
        return nothing("no cell holds a record that the dictionary certifies", grid.features.schema.width)
    # the last layer raises the logit of class 1: a record of class 1 sends an error of the other sign than all others
    labels = (found.errors < 0).long() if len(list(last.sent.values())[-1]) == 2 else None
    sure = torch.ones(len(found.records), dtype=torch.bool)
    notes = () if len(sure) >= last.records else (f"{len(sure)} of {last.records} records recovered",)
    return Claim(found.records.float(), sure.float(), labels, None, notes, checked=sure)
