"""Weights whose first layer sorts records and whose other layers are constant, and how single records are read off."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from fedinv.attack import Claim, Exchange, Knowledge, Weights, nothing
from fedinv.task.columns import Categorical
from fedinv.task.models import AnyModel
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema

from .cells import DEAD, FIRST
from .dictionary import certified, snapped, whole

SENSITIVITY = 1e-4
"""Change of the first class' logit, less the second's, by one unit of the first layer: so little that errors are equal
to 5 % whatever a record is."""
PASSED = 0.01
"""Weight by which a layer behind the first passes a unit on, and the bias that keeps it active."""
ABOVE = 8.0
"""Predicted target, in standard deviations, of a network with a single output, above all targets: all errors have one
sign, and no two cancel."""
SLACK = 1e-2
"""Error of a one-hot entry, or of a number in standard deviations, up to which a row counts as one record."""
COEFFICIENT = 5e-3
"""Relative difference up to which a row's coefficient is that of one record."""
SILENT = 0.02
"""Share of the largest tenth of coefficients below which a row counts as empty."""
SAME = 20.0
"""Steps of a standard deviation in which two records are one."""


def no_relu(model: AnyModel) -> str | None:
    """Why a model does not begin with a linear layer and ReLU, as a clause; None where it does."""
    if not isinstance(model, Mlp):
        return f"the model {model.kind!r} is no perceptron with a hidden layer"
    if model.activation != "relu":
        return f"the activation is {model.activation}, and with ReLU alone a unit can be silent"
    if model.bottleneck:
        return "the network has a variational bottleneck, behind which no error is known"
    return None


def reckoned(sent: Weights, knows: Knowledge, records: int | None, needs: str) -> tuple[Schema, int]:
    """The schema, of whose inputs a deviation needs something, and the number of records that it reckons with.

    `records` is the number that a scenario gives, without which it is the batch size. Raises ValueError where the
    schema is withheld or of other inputs, or the number is not known.
    """
    schema, many = knows.schema, records or knows.batch_size
    if schema is None or schema.width != layers(sent)[0][0].shape[1]:
        raise ValueError(f"the schema is withheld, or not that of the network's inputs, whose {needs} it needs")
    if many is None:
        raise ValueError("the batch size is withheld, write `records` in its place")
    return schema, many


def layers(weights: Weights) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer, float64. Raises ValueError for a network that is not made of linear layers."""
    tensors = [tensor.double() for tensor in weights.values()]
    pairs = list(zip(tensors[::2], tensors[1::2], strict=False))
    if len(tensors) % 2 or len(pairs) < 2 or not all(w.ndim == 2 and len(w) == len(b) for w, b in pairs):
        raise ValueError("the network is no perceptron with a hidden layer")
    return pairs


def constant_behind(like: Weights, rows: Tensor, biases: Tensor) -> dict[str, Tensor]:
    """Weights whose first units are `rows` (k, d) with `biases` (k,), and whose other layers are nearly constant.

    Each unit is passed on by itself, so that local steps at one record do not change what others are multiplied with.
    Further units never fire. Raises ValueError for a network that is not made of linear layers.
    """
    layers(like)
    made = {name: torch.zeros_like(tensor) for name, tensor in like.items()}
    tensors = list(made.values())
    tensors[0][: len(rows)] = rows.float()
    tensors[1].fill_(DEAD)
    tensors[1][: len(rows)] = biases.float()
    for weight, bias in zip(tensors[2:-2:2], tensors[3:-2:2], strict=True):
        at = torch.arange(weight.shape[1])
        weight[at % len(weight), at] = PASSED
        bias.fill_(PASSED)
    last(tensors[-2], tensors[-1], SENSITIVITY / PASSED ** (len(tensors) // 2 - 2))
    return made


def last(weight: Tensor, bias: Tensor, strength: float | Tensor) -> None:
    """Set a last layer to one at which all records of a class send the same error, up to a factor for each unit."""
    if len(weight) == 1:
        weight[0], bias[0] = strength, ABOVE
        return
    weight[0], weight[1] = -strength, strength
    bias[0] = log(FIRST / (1 - FIRST) * (len(bias) - 1))


def errors(weights: Weights, records: Tensor, label: int, layer: int) -> Tensor:
    """Gradient of each record's loss by the inputs of a hidden layer's units (n, m), if all had this class.

    The first hidden layer is layer 0; records (n, d) are float64.
    """
    stack, value = layers(weights), records
    with torch.enable_grad():
        for place, (weight, bias) in enumerate(stack):
            value = (value.relu() if place else value) @ weight.T + bias
            if place == layer:
                value = value.detach().requires_grad_()
                wanted = value
        target = torch.full((len(records),), label)
        total = torch.nn.functional.cross_entropy(value, target, reduction="sum")
        (found,) = torch.autograd.grad(total, wanted)
    return found


def gradient(last_: Exchange, knows: Knowledge, layer: int = 0) -> Tensor:
    """Sums over the records of a layer's units' errors times [input, 1], float64 (m, d + 1).

    Of several steps, which see other weights, up to a factor; so is all where the learning rate is withheld.
    """
    weight, bias = layers(last_.received)[layer]
    return torch.cat([weight, bias[:, None]], 1) * (-last_.records / (knows.lr or 1.0))


def discrete(schema: Schema | None) -> bool:
    """Whether the data dictionary tells a record from a mixture: by a category, or a number known to be whole."""
    return schema is not None and any(isinstance(c, Categorical) or whole(c) for c in schema.columns)


def predicts(last_: Exchange, knows: Knowledge) -> bool:
    """Whether the coefficient of a record's row is known: after a single step of plain descent, with classes."""
    exact = knows.algorithm == "fedsgd" and knows.lr is not None and not knows.class_weights
    return exact and knows.adaptive is None and not knows.weight_decay and layers(last_.sent)[-1][0].shape[0] > 1


@dataclass(frozen=True)
class Sums:
    """Sums of error times [record, 1], float64 (k, d + 1), each of which may be of one record."""

    rows: Tensor
    units: Tensor
    """Unit of the first layer whose error each sum has, int64 (k,)."""


@dataclass(frozen=True)
class Found:
    """k records, each of which was alone in a sum."""

    records: Tensor
    """Records, float64 (k, d)."""
    labels: Tensor
    """Class of each, int64 (k,)."""
    sure: Tensor
    """Which of them a check certifies, bool (k,)."""


def singles(sums: Sums, last_: Exchange, knows: Knowledge) -> Claim:
    """The claim of the records of those sums that are of one record each, see `alone`."""
    return claimed(alone(sums, last_, knows, floor(sums)), last_, knows)


def floor(sums: Sums) -> float:
    """Size of a coefficient below which a sum counts as empty."""
    size = sums.rows[:, -1].abs()
    return (SILENT * float(size.quantile(0.9)) or 1e-9 * float(size.max())) if len(size) else 0.0


def alone(sums: Sums, last_: Exchange, knows: Knowledge, least: float) -> Found:
    """The records of those sums that are of one record each, by the data dictionary and by their coefficient.

    The public dictionary decides where it can; a record's error is a known number of each class besides, after a
    single step, and no mixture has it. What neither can check is found, but not sure. Sums with a coefficient of at
    most `least` count as empty.
    """
    schema, width = knows.schema, sums.rows.shape[1] - 1
    at = (sums.rows[:, -1].abs() > least).nonzero()[:, 0]
    coefficients = sums.rows[at, -1]
    found = sums.rows[at, :-1] / coefficients[:, None]
    good = found.isfinite().all(1)
    sure, labels = torch.zeros_like(good), (coefficients < 0).long()
    if schema is not None and schema.width == width:
        good &= certified(schema, found, SLACK)
        found = snapped(schema, found)
        sure |= discrete(schema)
    if predicts(last_, knows):
        good, labels = _of_one(good, found, coefficients, (sums.units[at], last_))
        sure = torch.ones_like(good)
    found, sure, labels = found[good], sure[good], labels[good]
    keep = _distinct(found)
    return Found(found[keep], labels[keep], sure[keep])


def claimed(found: Found, last_: Exchange, knows: Knowledge) -> Claim:
    """The claim of records that were found."""
    if not len(found.records):
        return nothing("no unit holds a record by itself", found.records.shape[1])
    classes = layers(last_.sent)[-1][0].shape[0]
    notes = (
        () if len(found.records) >= last_.records else (f"{len(found.records)} of {last_.records} records recovered",)
    )
    return Claim(
        found.records.float(),
        found.sure.float() * 0.5 + 0.5,
        found.labels if classes == 2 or (predicts(last_, knows) and classes > 2) else None,
        None,
        notes,
        checked=found.sure,
    )


def _of_one(good: Tensor, found: Tensor, coefficients: Tensor, of: tuple[Tensor, Exchange]) -> tuple[Tensor, Tensor]:
    """Which rows have the coefficient of one record, among the `good` ones, and of which class."""
    units, last_ = of
    best, labels = torch.full_like(coefficients, torch.inf), torch.zeros_like(units)
    rows = torch.where(good[:, None], found, 0.0)
    for label in range(layers(last_.sent)[-1][0].shape[0]):
        expected = errors(last_.sent, rows, label, 0).gather(1, units[:, None])[:, 0]
        off = (coefficients / expected - 1).abs()
        labels = torch.where(off < best, label, labels)
        best = torch.minimum(best, off)
    return good & (best < COEFFICIENT), labels


def _distinct(records: Tensor) -> Tensor:
    """Positions of the first of each set of equal records, int64, in order."""
    seen: dict[tuple[int, ...], int] = {}
    for place, row in enumerate((records * SAME).round().int().tolist()):
        seen.setdefault(tuple(row), place)
    return torch.tensor(list(seen.values()), dtype=torch.int64)
