"""Records whose features lie in the span of the dense layers' update, behind any feature layers.

A batch of n records updates the first dense layer by D^T [F, 1], F being the records' features: where n is less than
the layer has units, the row space holds the features of each record by itself (Dimitrov et al. 2024, SPEAR; Petrov et
al. 2024, DAGER, section 3). Here a record is sought whose features lie in it, so that the signals need not be sparse.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedinv.attack import Exchange, Knowledge

from . import clock
from .local_training import known_network
from .row_space.spans import Span, span

DAMPING = 1e-3
"""First damping of Levenberg and Marquardt, relative to the mean diagonal entry of J^T J."""
EASED, STIFFENED = 0.2, 8.0
"""Factors of the damping after a step that lowered the residual, and after one that did not."""
LEAST, LARGEST = 1e-12, 1e2
"""Damping at its smallest, without which J^T J of dead features could not be solved, and at which a record is given
up."""
RANK = 1e-6
"""Share of the largest singular value of the residual's slopes below which a direction of a record goes unseen."""
MOST = 2**25
"""Numbers that the slopes of all records may hold at once; more records are sought one after another."""


@dataclass(frozen=True)
class Halves:
    """A network as feature layers and the dense layers behind them, float64, with the weights that were sent."""

    front: nn.Sequential
    """Feature layers, from records (n, width) to features (n, d)."""
    tail: nn.Sequential
    """Linear layers with ReLU between them, from features to logits."""
    names: tuple[tuple[str, str], ...]
    """Names of weight and bias of each linear layer in the whole network."""

    def spans(self, update: dict[str, Tensor], records: int, noise: float, generator: torch.Generator) -> list[Span]:
        """The spans of the dense layers' parts of an update, float64 by name, of at most so many records."""
        parts = [torch.cat([update[weight], update[bias][:, None]], 1) for weight, bias in self.names]
        return [span(one, records, noise, generator) for one in parts]


def halves(last: Exchange, knows: Knowledge) -> Halves:
    """Split the known network before its last chain of linear layers with ReLU between them.

    Raises ValueError where the architecture or the schema is withheld or does not fit the weights, where no such chain
    ends the network, where nothing is before it, and where records have more numbers than features.
    """
    if knows.model is None:
        raise ValueError("the architecture is withheld")
    if knows.schema is None:
        raise ValueError("the schema is withheld, and with it the shape of a record")
    network = known_network(knows.model, {name: tensor.double() for name, tensor in last.sent.items()}, knows.schema)
    layers = list(network)
    dense = sorted(_chain(layers))
    if not dense:
        raise ValueError("the network does not end in linear layers with biases and ReLU between them")
    front = nn.Sequential(*layers[: dense[0]])
    if not any(True for _ in front.parameters()):
        raise ValueError("no feature layers are before the linear ones")
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in front.modules()):
        raise ValueError("a batch normalization makes a record's features depend on the others of its batch")
    first = layers[dense[0]]
    if isinstance(first, nn.Linear) and first.in_features < knows.schema.width:
        raise ValueError(f"{first.in_features} features do not determine the {knows.schema.width} numbers of a record")
    names = tuple((f"{i}.weight", f"{i}.bias") for i in dense)
    return Halves(front.requires_grad_(False), nn.Sequential(*layers[dense[0] :]), names)


def _chain(layers: list[nn.Module]) -> Iterator[int]:
    """Positions of the linear layers of the chain that ends a network, the last one first."""
    place = len(layers) - 1
    while place >= 0:
        layer = layers[place]
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            return
        yield place
        if place < 2 or not isinstance(layers[place - 1], nn.ReLU):
            return
        place -= 2


def sought(front: nn.Sequential, rows: Tensor, start: Tensor, steps: int, enough: float) -> tuple[Tensor, Tensor]:
    """Records whose features, with a 1 appended, lie in the span of `rows` (r, d + 1), orthonormal, float64.

    Begins at `start` (k, width) and seeks each record by itself by Levenberg-Marquardt (Marquardt 1963): features of
    ReLU layers are linear in the record between two switches. Returns records (k, width) and the share of their
    features' length that lies outside the span, (k,), infinite where the span does not determine the record.
    """
    chunk = max(1, MOST // (rows.shape[1] * start.shape[1]))
    records, outside = zip(
        *(_sought(front, rows, one, steps, enough) for one in torch.split(start, chunk)), strict=True
    )
    return torch.cat(records), torch.cat(outside)


@dataclass(frozen=True)
class _State:
    """Where the search for some records is."""

    records: Tensor
    slopes: Tensor
    """Slopes (k, d + 1, width) of the part of the features outside the span."""
    rest: Tensor
    """Part of the features outside the span, (k, d + 1)."""
    cost: Tensor
    """Its share of the features' length, (k,)."""

    def take(self, rows: Tensor) -> "_State":
        return _State(self.records[rows], self.slopes[rows], self.rest[rows], self.cost[rows])

    def put(self, rows: Tensor, other: "_State") -> None:
        """Overwrite rows."""
        for name, value in vars(other).items():
            getattr(self, name)[rows] = value


def _sought(front: nn.Sequential, rows: Tensor, start: Tensor, steps: int, enough: float) -> tuple[Tensor, Tensor]:
    def one(record: Tensor) -> tuple[Tensor, Tensor]:
        found = front(record[None])[0]
        found = torch.cat([found, found.new_ones(1)])
        return found, found

    slopes_of = torch.func.vmap(torch.func.jacfwd(one, has_aux=True))

    def at(records: Tensor) -> _State:
        slopes, features = slopes_of(records)
        rest = features - (features @ rows.T) @ rows
        return _State(records, slopes - rows.T @ (rows @ slopes), rest, rest.norm(dim=1) / features.norm(dim=1))

    eye = torch.eye(start.shape[1], dtype=start.dtype)
    with torch.no_grad():
        state = at(start.clone())
        damping = torch.full((len(start),), DAMPING, dtype=start.dtype)
        for _ in range(steps):
            clock.check()
            moving = ((state.cost > enough) & (damping < LARGEST)).nonzero()[:, 0]
            if not len(moving):
                break
            now = state.take(moving)
            gram = now.slopes.mT @ now.slopes
            ridge = damping[moving] * gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-300)
            step = torch.linalg.solve(gram + ridge[:, None, None] * eye, now.slopes.mT @ now.rest[:, :, None])
            moved = at(now.records - step[..., 0])
            better = moved.cost < now.cost
            state.put(moving[better], moved.take(better.nonzero()[:, 0]))
            damping[moving] = torch.where(better, damping[moving] * EASED, damping[moving] * STIFFENED).clamp_min(LEAST)
        values = torch.linalg.svdvals(state.slopes)
    vague = values[:, -1] <= RANK * values[:, 0]
    return state.records, torch.where(vague, torch.inf, state.cost)
