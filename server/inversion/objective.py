"""How well a batch explains an update: the cosine between the update and the batch's gradient, in closed form.

Geiping et al. 2020 (Inverting Gradients), section 3, for multilayer perceptrons. A layer's weight gradient is
D^T H, with D the slopes at its outputs and H its inputs, so that the cosine needs no weight gradient:
<D^T H, T> = sum D o (H T^T)   and   |D^T H|^2 = sum (D D^T) o (H H^T).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

RANKS = 64
"""Longest factorization of a layer's update that is looked for."""


@dataclass(frozen=True)
class Dense:
    """A linear layer's parameters, or an update of them."""

    weight: Tensor
    """float32 (outputs, inputs)."""
    bias: Tensor
    """float32 (outputs,)."""


def dense_layers(tensors: Mapping[str, Tensor]) -> tuple[Dense, ...]:
    """Read a chain of linear layers by their parameters' names, "0.weight", "0.bias", "2.weight" and so on.

    Raises ValueError for anything that is no such chain.
    """
    stems = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    if not stems or set(tensors) != {f"{s}.{kind}" for s in stems for kind in ("weight", "bias")}:
        raise ValueError(f"no chain of linear layers: parameters {sorted(tensors)}")
    layers = tuple(Dense(tensors[f"{s}.weight"].float(), tensors[f"{s}.bias"].float()) for s in stems)
    for i, layer in enumerate(layers):
        fits = layer.weight.ndim == 2 and layer.bias.shape == layer.weight.shape[:1]
        if not fits or (i and layer.weight.shape[1] != layers[i - 1].weight.shape[0]):
            raise ValueError(f"no chain of linear layers: {stems[i]}.weight has shape {tuple(layer.weight.shape)}")
    return layers


@dataclass(frozen=True)
class Direction:
    """A layer's part of the direction to be explained; its weight as a product where that is shorter."""

    left: Tensor
    """float32 (outputs, rank)."""
    right: Tensor | None
    """float32 (rank, inputs), or None where `left` is the whole (outputs, inputs)."""
    bias: Tensor

    def of_inputs(self, hidden: Tensor) -> Tensor:
        """H T^T + t: (..., inputs) to (..., outputs)."""
        short = hidden if self.right is None else hidden @ self.right.T
        return short @ self.left.T + self.bias

    def of_outputs(self, slopes: Tensor) -> Tensor:
        """D T: (..., outputs) to (..., inputs)."""
        short = slopes @ self.left
        return short if self.right is None else short @ self.right


def directions(update: tuple[Dense, ...], generator: torch.Generator) -> tuple[Direction, ...]:
    """Scale the negated update to length 1 in all and factor each layer of low rank.

    A batch of n records changes a layer by a matrix of rank n at most, which a random projection finds (Halko et al.
    2011, algorithm 4.1). Raises ValueError for an update of length zero.
    """
    norm = float(sum(u.weight.double().square().sum() + u.bias.double().square().sum() for u in update) ** 0.5)
    if not norm > 0:
        raise ValueError("the update is zero")
    return tuple(_direction(-u.weight / norm, -u.bias / norm, generator) for u in update)


def _direction(weight: Tensor, bias: Tensor, generator: torch.Generator) -> Direction:
    if min(weight.shape) < 3 * RANKS:
        return Direction(weight, None, bias)
    basis, spread = torch.linalg.qr(weight @ torch.randn(weight.shape[1], RANKS, generator=generator))
    rank = int((spread.diagonal().abs() > 1e-6 * spread.diagonal().abs().max()).sum())
    basis = basis[:, :rank]
    rest = basis.T @ weight
    exact = torch.linalg.norm(weight - basis @ rest) <= 1e-4 * torch.linalg.norm(weight)
    return Direction(basis, rest, bias) if bool(exact) else Direction(weight, None, bias)


def cosine(
    inputs: Tensor, labels: Tensor, layers: tuple[Dense, ...], target: tuple[Direction, ...], clip: float = math.inf
) -> tuple[Tensor, Tensor]:
    """Cosine between the target and the mean cross-entropy's gradient at `layers`, and its slope.

    inputs float32 (restarts, n, width), labels one-hot float32 (restarts, n, classes). Each record's gradient is cut
    to the norm `clip` first, as DP-SGD does. Returns (restarts,) and the cosine's derivative with respect to the inputs
    (restarts, n, width).
    """
    n, last = inputs.shape[1], len(layers) - 1
    hidden, slopes, chances, cut = _passes(inputs, labels, layers, clip)
    alive = [(h > 0).float() for h in hidden[1:]]

    along = [t.of_inputs(h) for t, h in zip(target, hidden, strict=True)]
    grams = [h @ h.mT + 1 for h in hidden]
    pairs = [d @ d.mT for d in slopes]
    dot = torch.stack([(d * a).sum((1, 2)) for d, a in zip(slopes, along, strict=True)]).sum(0)
    square = torch.stack([(e * k).sum((1, 2)) for e, k in zip(pairs, grams, strict=True)]).sum(0).clamp_min(1e-30)
    value = dot * square.rsqrt()
    toward, against = square.rsqrt()[:, None, None], (-value / square)[:, None, None]

    pulled = [toward * a + against * (k @ d) for a, k, d in zip(along, grams, slopes, strict=True)]
    direct = [
        toward * t.of_outputs(d) + against * (e @ h) for t, d, e, h in zip(target, slopes, pairs, hidden, strict=True)
    ]
    if clip < math.inf:  # a longer gradient is cut harder: the part along itself has no effect
        radial = torch.stack([(p * d).sum(-1, True) for p, d in zip(pulled, slopes, strict=True)]).sum(0)
        radial = radial * (cut < 1) * (n / clip) ** 2
        own_inputs = [k.diagonal(dim1=-2, dim2=-1)[..., None] for k in grams]
        own_slopes = [e.diagonal(dim1=-2, dim2=-1)[..., None] for e in pairs]
        pulled = [p - radial * d * k for p, d, k in zip(pulled, slopes, own_inputs, strict=True)]
        direct = [g - radial * e * h for g, e, h in zip(direct, own_slopes, hidden, strict=True)]

    # backwards through the slopes' recursion, first layer to last, then through the network, last to first
    carried = pulled[0]
    for i in range(1, last + 1):
        carried = pulled[i] + (carried * alive[i - 1]) @ layers[i].weight.T
    carried = cut * chances * (carried - (chances * carried).sum(-1, keepdim=True)) / n
    for i in range(last, -1, -1):
        carried = carried @ layers[i].weight + direct[i]
        if i:
            carried = carried * alive[i - 1]
    return value, carried


def influence(inputs: Tensor, labels: Tensor, layers: tuple[Dense, ...], clip: float = math.inf) -> Tensor:
    """Squared length of each record's own gradient over that of their sum: (n,), for inputs (n, width).

    labels one-hot float32 (n, classes), clip as for `cosine`.
    """
    hidden, slopes, _, _ = _passes(inputs, labels, layers, clip)
    pairs = torch.stack([(d @ d.mT) * (h @ h.mT + 1) for d, h in zip(slopes, hidden, strict=True)]).sum(0)
    own: Tensor = pairs.diagonal() / pairs.sum().clamp_min(1e-30)
    return own


def _passes(
    inputs: Tensor, labels: Tensor, layers: tuple[Dense, ...], clip: float
) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """Forward and backward: each layer's inputs, the mean loss' slopes at its outputs, softmax, clipping factors.

    Of shape (..., n, width of the layer), the factors (..., n, 1).
    """
    n, hidden = inputs.shape[-2], [inputs]
    for layer in layers[:-1]:
        hidden.append((hidden[-1] @ layer.weight.T + layer.bias).relu())
    chances = (hidden[-1] @ layers[-1].weight.T + layers[-1].bias).softmax(-1)
    slopes = [(chances - labels) / n]
    for layer, below in zip(layers[:0:-1], hidden[:0:-1], strict=True):
        slopes.insert(0, (slopes[0] @ layer.weight) * (below > 0))
    cut = torch.ones_like(chances[..., :1])
    if clip < math.inf:
        parts = [d.square().sum(-1, True) * (h.square().sum(-1, True) + 1) for d, h in zip(slopes, hidden, strict=True)]
        cut = (clip / (n * torch.stack(parts).sum(0).sqrt().clamp_min(1e-12))).clamp_max(1)
        slopes = [d * cut for d in slopes]
    return hidden, slopes, chances, cut


def flops(layers: tuple[Dense, ...], target: tuple[Direction, ...], records: int) -> float:
    """Floating-point operations of one `cosine` over a batch of `records`, roughly."""
    network = sum(layer.weight.numel() for layer in layers)
    direction = sum(t.left.numel() + (0 if t.right is None else t.right.numel()) for t in target)
    widths = sum(sum(layer.weight.shape) for layer in layers)
    return 2.0 * records * (4 * network + 2 * direction + 3 * records * widths)
