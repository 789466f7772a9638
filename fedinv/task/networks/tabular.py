"""Networks for rows of a table: embeddings or codes of categories, normalizations, residual blocks, one logit."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn

from fedinv.task.columns import Categorical
from fedinv.task.networks.architecture import Architecture, Shape
from fedinv.task.networks.beginning import Beginning, Layer
from fedinv.task.networks.perceptron import ACTIVATIONS, Whole, bottleneck_layers, width_of
from fedinv.task.schema import Schema

TABLES = "0.tables."
"""Beginning of the names of the embedding tables' layers."""
GROUPS = 8
"""Groups of units that a group normalization makes."""
WIDEST = 50
"""Widest embedding that the rule min(50, (values + 1) // 2) gives."""


@dataclass(frozen=True)
class Slot:
    """One column of a record, as the network reads it."""

    start: int
    """First of the record's inputs that the column has."""
    width: int
    """Number of the record's inputs that the column has."""
    categorical: bool
    """Whether the inputs are the one-hot values of a category, not numbers."""
    codes: tuple[float, ...] = ()
    """Code of each value of a category, standardized: 0, 1, 2 ... less their mean, by their standard deviation."""

    @property
    def where(self) -> slice:
        """The record's inputs that the column has."""
        return slice(self.start, self.start + self.width)


class Tabular(Architecture):
    """A network for rows of a table: an encoding of the categories, hidden layers with options, one logit or several.

    Every record reaches the first linear layer as z = E x + c, linear in its one-hot encoding x: with embeddings E is
    made of the tables, which the server itself sent; with ordinal codes it is fixed by the data dictionary; with
    one-hot inputs it is the identity. So these equations hold for the update of any of these networks:

    - dW1 = D^T Z, whatever follows the layer: activations, normalizations, residual blocks and dropout change D alone.
      The rows of dW1 span the records' z, of which the table's rows are looked up again.
    - A row of an embedding table moves only where a record of the batch has its category: the rows that moved name the
      categories that are present. One-hot inputs say the same by the columns of W1.
    - dW2 = D2^T act(norm(W1 z + b1)) in the same way. Layer and group normalization leave one equation a record, of a
      nonlinear map; dropout hides it behind random masks.
    - Batch normalization subtracts each unit's mean over the batch, also from the slopes: the rows of D sum to 0, and
      dW1 spans the differences between records alone. But its running mean moves by m (batch mean - old mean), so that
      one step tells W1 mean(z) + b1 exactly, of which mean(z) follows: with it the span is that of the records again.
      Mean and variance together make it an affine map of each record by itself.
    - Without biases the spans are those of z alone, not of [z, 1]; the known entries of categories give its length.
    """

    encodes: ClassVar[bool] = True

    kind: Literal["tabular"] = "tabular"
    """Selects this network, and with it the keys that the table may have."""
    hidden: tuple[Whole, ...] = Field(default=(512, 512), min_length=1, max_length=100)
    """Units of each hidden layer, from the input on; wide first layers reveal more records to analytic attacks."""
    activation: Literal["relu", "leaky-relu", "gelu", "silu", "tanh", "sigmoid"] = "relu"
    """Activation after each hidden layer."""
    encoding: Literal["embedding", "ordinal", "one-hot"] = "embedding"
    """How a category enters the network: by a row of an embedding table for each column, by the number of its value,
    standardized by the published frequencies, or one-hot. Numbers stand beside, standardized."""
    embedding_width: Annotated[int, Field(ge=0)] = 0
    """Numbers of an embedding; 0 for the rule min(50, (values + 1) // 2)."""
    norm: Literal["none", "batch", "layer", "group"] = "none"
    """Normalization before each activation. "batch" mixes the records of a batch, so that defenses that clip each
    record's gradient refuse it; its running statistics travel with the update, and normalize a batch of one record.
    "group" makes 8 groups of units."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which training sets a hidden unit to 0, drawn anew for each record and step."""
    residual: bool = False
    """Whether a hidden layer as wide as the one before adds its output to its input (a skip connection)."""
    bias: bool = True
    """Whether linear layers have biases."""
    logits: Literal["per class", "one"] = "per class"
    """Outputs: one logit a class, or a single one for two classes, trained by binary cross-entropy."""
    bottleneck: Annotated[int, Field(ge=0)] = 0
    """Width of the variational bottleneck before the last layer; 0 for none. The defense precode sets it."""

    _slots: tuple[Slot, ...] = PrivateAttr(default=())
    _outputs: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        if self.norm == "group" and any(width % GROUPS for width in self.hidden):
            raise ValueError(f'norm: "group" makes {GROUPS} groups: write widths in hidden that are multiples of it')
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer, as `hidden` says."""
        return self.hidden

    @property
    def no_own_gradients(self) -> str | None:
        """Batch normalization makes each record's output depend on the others of its batch."""
        if self.norm == "batch":
            return 'model.norm = "batch" mixes the records of a batch: use norm = "layer", "group" or "none"'
        return None

    @property
    def sizes(self) -> tuple[Shape, int] | None:
        """Shape of a record and number of outputs, once the model is fitted to a schema."""
        return ((sum(slot.width for slot in self._slots),), self._outputs) if self._slots else None

    def fitted(self, schema: Schema) -> Self:
        """The same model with the columns of the schema: which inputs are a category's, and the codes of its values."""
        made = self.model_copy()
        slots = [_slot(c, where.start) for c, where in zip(schema.columns, schema.slices, strict=True)]
        made._slots, made._outputs = tuple(slots), schema.outputs
        return made

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order. Raises ValueError where it is fitted to no schema of records of this shape."""
        if not self._slots:
            raise ValueError(f"model {self.kind!r} reads columns: it must be fitted to a schema")
        if self.sizes is None or self.sizes[0][0] != width_of(shape):
            raise ValueError(f"model {self.kind!r} is fitted to other records than those of the shape {tuple(shape)}")
        if self.logits == "one" and outputs > 2:
            raise ValueError(f'model.logits: "one" tells two classes apart, and there are {outputs}: use "per class"')
        front = self._front()
        widths = [front.width, *self.hidden]
        made: list[nn.Module] = [front]
        for place, (before, after) in enumerate(pairwise(widths)):
            block = [nn.Linear(before, after, bias=self.bias), *self._norms(after), _ACTIVATIONS[self.activation]()]
            if self.dropout:
                block.append(nn.Dropout(self.dropout))
            made += [Residual(*block)] if self.residual and place and before == after else block
        made += bottleneck_layers(widths[-1], self.bottleneck)
        made.append(nn.Linear(widths[-1], 1 if self.logits == "one" else outputs, bias=self.bias))
        return [*made, OneLogit()] if self.logits == "one" and outputs == 2 else made

    def beginning(
        self, weights: Mapping[str, Tensor], update: Mapping[str, Tensor], steps: int, records: int
    ) -> Beginning | None:
        """The first two linear layers at these weights; see the class' docstring for their equations."""
        if not self._slots:
            return None
        mixed = self.norm == "batch" and records > 1  # a record alone is normalized by the running statistics
        front = self._front(torch.device("meta"))
        given = {name: tensor.double() for name, tensor in weights.items()}
        tables = [given.get(f"{TABLES}{i}.weight") for i in range(len(front.tables))]
        matrix, shift = front.map(tables)
        first, second = self._linear(1), self._linear(2) if self._second_is_plain else None
        weight = given[first.weight]
        bias = given[first.bias] if first.bias else torch.zeros(len(weight), dtype=weight.dtype)
        units: _Map | None = (weight, bias)
        if self.norm == "batch" and units is not None:
            units = _normalized(units, given, update, records) if steps == 1 and records > 1 else None
        elif self.norm != "none":
            units = None
        moved = [update.get(f"{TABLES}{i}.weight") for i in range(len(front.tables))]
        if self.encoding == "one-hot":
            sizes = [slot.width for slot in self._slots if slot.categorical]
            moved = list(torch.split(update[first.weight][:, : sum(sizes)], sizes, 1))
        used = iter(moved)
        return Beginning(
            matrix=matrix,
            shift=shift,
            first=first,
            second=second,
            units=units,
            activation=self.activation,
            uses=tuple(next(used, None) if slot.categorical else None for slot in self._slots),
            widths=tuple((slot.where, slot.categorical) for slot in self._slots),
            center=_center((weight, bias), given, update, steps) if mixed else None,
            apart=not mixed,
            random=self.dropout > 0 or self.bottleneck > 0,
        )

    @property
    def _second_is_plain(self) -> bool:
        """Whether the second layer's update spans its inputs.

        Not behind dropout, whose masks are random, nor in front of a batch normalization, where slopes sum to 0 over
        the batch, nor where a bottleneck stands there instead.
        """
        behind = self.norm == "batch" and len(self.hidden) > 1
        return not (self.dropout or behind or (self.bottleneck and len(self.hidden) == 1))

    def _front(self, device: torch.device | None = None) -> "Columns":
        with device or torch.device(torch.get_default_device()):
            return Columns(self._slots, self.encoding, self.embedding_width)

    def _norms(self, width: int) -> list[nn.Module]:
        made = {"none": None, "batch": BatchNorm, "layer": nn.LayerNorm, "group": partial(nn.GroupNorm, GROUPS)}
        kind = made[self.norm]
        return [] if kind is None else [kind(width)]

    def _linear(self, place: int) -> Layer:
        """Names of the linear layer at a place, from 1, without those that stand in a residual block before it."""
        block = 2 + (self.norm != "none") + (self.dropout > 0)
        stem = "1" if place == 1 else str(1 + block)
        if place == 2 and self.residual and len(self.hidden) > 1 and self.hidden[0] == self.hidden[1]:
            stem += ".0"
        return Layer(f"{stem}.weight", f"{stem}.bias" if self.bias else None)


class Columns(nn.Module):
    """Encoded records (n, d) to the first layer's inputs (n, w): embeddings or codes of categories, then the numbers.

    A table is a linear layer without bias from the one-hot values (n, values) to embeddings: its columns are the rows
    of torch's nn.Embedding, and begin as those do, from the standard normal distribution.
    """

    def __init__(self, slots: tuple[Slot, ...], encoding: str, embedding_width: int) -> None:
        super().__init__()
        self.slots, self.encoding = slots, encoding
        self.tables = nn.ModuleList()
        categories = [slot for slot in slots if slot.categorical]
        taken = [1 if encoding == "ordinal" else slot.width for slot in categories]
        if encoding == "embedding":
            taken = [embedding_width or min(WIDEST, (slot.width + 1) // 2) for slot in categories]
            for slot, width in zip(categories, taken, strict=True):
                table = nn.Linear(slot.width, width, bias=False)
                nn.init.normal_(table.weight)
                self.tables.append(table)
        self.width = sum(taken) + sum(slot.width for slot in slots if not slot.categorical)

    def forward(self, records: Tensor) -> Tensor:
        """The first layer's inputs (n, w) of records (n, d)."""
        categories = [records[..., slot.where] for slot in self.slots if slot.categorical]
        if self.encoding == "embedding":
            categories = [table(part) for table, part in zip(self.tables, categories, strict=True)]
        elif self.encoding == "ordinal":
            codes = [records.new_tensor(slot.codes) for slot in self.slots if slot.categorical]
            categories = [part @ code[:, None] for part, code in zip(categories, codes, strict=True)]
        return torch.cat([*categories, *(records[..., slot.where] for slot in self.slots if not slot.categorical)], -1)

    def map(self, tables: list[Tensor | None]) -> tuple[Tensor, Tensor]:
        """Matrix (w, d) and shift (w,) of the affine map from records, float64, with these embedding tables."""
        given, rows = iter(tables), list[Tensor]()
        total = sum(slot.width for slot in self.slots)
        for slot in sorted(self.slots, key=lambda one: not one.categorical):
            block = torch.eye(slot.width, dtype=torch.float64, device="cpu")
            if slot.categorical and self.encoding == "embedding":
                table = next(given)
                assert table is not None  # one for each category
                block = table.double()
            elif slot.categorical and self.encoding == "ordinal":
                block = torch.tensor([slot.codes], dtype=torch.float64, device="cpu")
            row = torch.zeros(len(block), total, dtype=torch.float64, device="cpu")
            row[:, slot.where] = block
            rows.append(row)
        matrix = torch.cat(rows)
        return matrix, torch.zeros(len(matrix), dtype=torch.float64, device="cpu")


class Residual(nn.Sequential):
    """Layers whose output (n, units) is added to their input (n, units)."""

    def forward(self, hidden: Tensor) -> Tensor:
        """The input plus what the layers make of it."""
        made: Tensor = super().forward(hidden)  # type: ignore[no-untyped-call]
        return hidden + made


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization of units (n, units), by its running statistics where a batch has one record alone.

    torch refuses such a batch, with which an epoch may end; its own mean and variance would leave nothing of it.
    """

    def forward(self, units: Tensor) -> Tensor:
        """The normalized units."""
        if not self.training or len(units) > 1:
            made: Tensor = super().forward(units)
            return made
        if self.running_mean is None:
            return 0 * units * self.weight + self.bias
        return nn.functional.batch_norm(
            units, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class OneLogit(nn.Module):
    """A single logit z (n, 1) as the two logits -z/2 and z/2 (n, 2).

    Their cross-entropy is the binary cross-entropy of z, and so are its gradients.
    """

    def forward(self, logit: Tensor) -> Tensor:
        """The two logits."""
        return torch.cat([-logit / 2, logit / 2], -1)


_Map = tuple[Tensor, Tensor]
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    **{str(name): layer for name, layer in ACTIVATIONS.items()},
    "silu": nn.SiLU,
}


def _slot(column: object, start: int) -> Slot:
    if not isinstance(column, Categorical):
        return Slot(start, column.width, categorical=False)  # type: ignore[attr-defined]
    share = torch.tensor(column.frequencies, dtype=torch.float64)
    share = share / share.sum()
    code = torch.arange(column.width, dtype=torch.float64)
    mean = float((share * code).sum())
    std = float((share * (code - mean).square()).sum().sqrt()) or 1.0
    return Slot(start, column.width, categorical=True, codes=tuple(((code - mean) / std).tolist()))


def _center(layer: _Map, weights: Mapping[str, Tensor], moved: Mapping[str, Tensor], steps: int) -> Tensor | None:
    """Mean (w,) of the first layer's inputs over the batch, from the running mean behind the layer.

    Exact for a single step; of several steps an average, in which the last ones count most. None where the layer has
    fewer units than inputs, which then do not follow.
    """
    weight, bias = layer
    if weight.shape[0] < weight.shape[1]:
        return None
    kept = (1 - (nn.BatchNorm1d(1).momentum or 1.0)) ** steps
    mean = weights["2.running_mean"] + moved["2.running_mean"].double() * (1 / (1 - kept) - (steps > 1) * 0.5)
    center: Tensor = torch.linalg.lstsq(weight, (mean - bias)[:, None]).solution[:, 0]
    return center


def _normalized(
    layer: tuple[Tensor, Tensor], weights: Mapping[str, Tensor], moved: Mapping[str, Tensor], n: int
) -> _Map:
    """A first layer's weight and bias with the batch normalization behind it, for a batch of n in a single step.

    The running mean moves by m (mean - old), the running variance by m (n / (n - 1) variance - old).
    """
    norm, stem = nn.BatchNorm1d(1), "2."
    momentum = norm.momentum or 1.0
    mean, variance = (
        weights[stem + name] + moved[stem + name].double() / momentum for name in ("running_mean", "running_var")
    )
    scale = weights[stem + "weight"] * ((n - 1) / n * variance + norm.eps).clamp_min(norm.eps).rsqrt()
    weight, bias = layer
    return scale[:, None] * weight, scale * (bias - mean) + weights[stem + "bias"]
