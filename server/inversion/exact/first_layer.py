"""The update of a network's first linear layer, and the few directions that its records span."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedinv.attack import Exchange, Knowledge, Weights

from ..local_training import decay

ROUNDING = 2.0**-24
"""Relative rounding error of a float32 number."""


@dataclass(frozen=True)
class FirstLayer:
    """A linear layer from d inputs to h units, in float64."""

    weight: Tensor
    """Weight and, as last column, bias as they were sent, (h, d + 1)."""
    update: Tensor
    """Update of weight and bias, without the effect of known weight decay, (h, d + 1)."""
    last: bool
    """Whether no other layer follows."""
    signs: Tensor | None = None
    """Signs of the units' weight towards the second logit, (h,) 1 or -1, where only a layer of two logits follows: a
    record's signal times these has one sign on all units. None for other networks."""


@dataclass(frozen=True)
class Factors:
    """Factors of the update: update = left @ right + noise; rank r is the number of records that can be separated."""

    left: Tensor
    """Basis of the column space, which the records' signals span, orthonormal columns (h, r)."""
    right: Tensor
    """Basis of the row space, which the records span, orthogonal rows of falling norm (r, d + 1)."""
    noise: float
    """Standard deviation of the noise on each entry of the update."""


def first_layer(last: Exchange, knows: Knowledge) -> FirstLayer:
    """Return an exchange's first layer, which must be linear with a bias, with known weight decay subtracted.

    Raises ValueError when the network does not begin so, when the update does not fit the weights that were sent, and
    when it is zero or not finite.
    """
    sent, received = last.sent, last.received
    names = list(sent)
    if not names or sorted(names) != sorted(received) or any(sent[n].shape != received[n].shape for n in names):
        raise ValueError("the update does not have the parameters that were sent, as if it were masked or compressed")
    if not all(bool(torch.isfinite(t[n]).all()) for t in (sent, received) for n in names):
        raise ValueError("the update or the model holds values that are not finite")
    weight = names[0]
    bias = names[1] if len(names) > 1 else ""
    if sent[weight].ndim == 4:
        raise ValueError(convolution(last, knows))
    if sent[weight].ndim != 2 or not bias or sent[bias].shape != sent[weight].shape[:1]:
        raise ValueError("the network does not begin with a linear layer that has a bias")
    if not any(bool(received[n].any()) for n in names):
        raise ValueError("the update is zero")
    start, update = with_bias(sent, weight, bias), with_bias(received, weight, bias)
    if not bool(update.any()):
        raise ValueError("the first layer's update is zero")
    signs = None
    if len(names) == 4 and sent[names[2]].shape == (2, len(start)):
        signs = (sent[names[2]][1] - sent[names[2]][0]).double().sign()
    return FirstLayer(start, update - decay(knows, last.records) * start, last=len(names) == 2, signs=signs)


def convolution(last: Exchange, knows: Knowledge) -> str:
    """The reason why nothing can be read off a first layer that is a convolution, with numbers where they are known.

    Each position of its kernel sees a patch of each record, and its update is the sum over all of them: its rank is at
    most that of its smaller side, and patches can be separated only while there are no more of them.
    """
    kernels, channels, down, across = next(iter(last.sent.values())).shape
    rank = min(kernels, channels * down * across)
    text = (
        f"the network begins with a convolution: the update of its {kernels} kernels of {channels} x {down} x {across} "
        f"inputs has a rank of {rank} at most, and "
    )
    places = _places(knows)
    if places is None:
        return f"{text}each of {last.records} records goes into it with the patches of all places"
    return f"{text}{last.records} x {places} patches of {last.records} records go into it"


def _places(knows: Knowledge) -> int | None:
    """Number of positions at which the first convolution's kernel is applied to an image; None if not known."""
    if knows.model is None or knows.schema is None or knows.schema.image is None:
        return None
    with torch.device("meta"):
        layers = knows.model.layers(knows.schema.shape, knows.schema.outputs)
        first = next((layer for layer in layers if isinstance(layer, nn.Conv2d)), None)
        return None if first is None else first(torch.empty(1, *knows.schema.shape))[0, 0].numel()


def factor(layer: FirstLayer, records: int, noise: float, lossless: bool) -> Factors:
    """Factor a layer's update by its singular values that exceed the noise, at most one per record.

    `noise` is the standard deviation of known noise on each entry, 0 for none. Rounding adds to it: of the update where
    `lossless` (FedSGD), else of the weights that it is a difference of; so do the singular values beyond the number of
    records, which hold nothing else. The largest singular value of noise alone is about
    std * (sqrt(rows) + sqrt(columns)) (Marchenko, Pastur 1967). The rank is 0 when none exceeds it.
    """
    h, width = layer.update.shape
    edge = math.sqrt(h) + math.sqrt(width)
    left, values, right = torch.linalg.svd(layer.update, full_matrices=False)
    size = layer.update if lossless else layer.weight
    std = math.hypot(noise, ROUNDING * float(size.square().mean().sqrt()))
    if records < len(values):
        rest = math.sqrt(float(values[records:].square().mean()) * len(values) / (h * width))
        std = max(std, rest)
    rank = min(int((values > 1.5 * std * edge).sum()), records)
    return Factors(left[:, :rank], values[:rank, None] * right[:rank], std)


def with_bias(tensors: Weights, weight: str, bias: str) -> Tensor:
    """A layer's weight and, as last column, its bias, float64 (outputs, inputs + 1)."""
    return torch.cat([tensors[weight], tensors[bias][:, None]], dim=1).double()
