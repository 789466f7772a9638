"""Spans of a transformer's linear layers, in which the layer's input at every token must lie.

A linear layer that reads x_t at token t and whose outputs have the slopes d_t there is updated by the sum of d_t [x_t,
1]^T over all tokens of the batch. Where there are fewer tokens than inputs the row space of the update is the span of
the [x_t, 1] (Petrov et al. 2024, DAGER, section 3, without the bias, which tells lengths apart). An adapter B A beside
frozen weights has the updates B^T D^T X of A, whose rows lie in the span of the x_t, and D^T X A^T of B, whose rows lie
in that of the A x_t.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR = 1e-7
"""Share of the largest singular value from which on others count towards the rank: what float32 leaves of zeros is
3e-8 (widths 64 to 256, batches of 1 to 16)."""
MARGIN = 3.0
"""Factor by which a singular value must exceed the largest one of known noise to count towards the rank."""
TOLERANCE = 1e-3
"""Relative distance from a span up to which an input lies in it after a single step: true ones are within 1e-5 of it,
wrong ones beyond 0.03 (`python -m benchmarks text`)."""

SPARE = 4
"""Directions that a span must leave free: layer normalization leaves one free whatever the tokens are, and few more
tell little."""


@dataclass(frozen=True)
class Span:
    """Directions in which every input of a layer must lie."""

    rows: Tensor
    """Basis, orthonormal rows, float64 (rank, numbers)."""
    shape: Tensor
    """Map of an input with its constant to the numbers that the basis is of, (numbers, inputs + 1)."""

    @property
    def rank(self) -> int:
        """Number of directions."""
        return len(self.rows)

    def distance(self, inputs: Tensor) -> Tensor:
        """Distance of inputs (..., d) from the span, relative to their length, 0 to 1 (...)."""
        one = torch.cat([inputs, torch.ones_like(inputs[..., :1])], -1) @ self.shape.T
        rest = one - (one @ self.rows.T) @ self.rows
        found: Tensor = rest.norm(dim=-1) / one.norm(dim=-1).clamp_min(1e-300)
        return found


@dataclass(frozen=True)
class Noise:
    """What is in an update beside gradients."""

    spread: float = 0.0
    """Standard deviation of known noise on each entry."""
    most: float = 1.0
    """Largest rank of a span, as a share of the directions: the nearest part of one that drifts over several steps."""


def spans(
    update: Mapping[str, Tensor], sent: Mapping[str, Tensor], layers: Sequence[str], noise: Noise
) -> tuple[Span, ...] | str:
    """The spans of linear layers that read the same inputs, by their names; why they tell nothing, where they do not.

    Layers without an update of their own, as they are frozen, are passed over.
    """
    found, full = list[Span](), 0
    whole = [name for name in layers if f"{name}.weight" in update]
    if whole:
        width = update[f"{whole[0]}.weight"].shape[1]
        shape = torch.eye(width + 1, dtype=torch.float64)
        shape[-1, -1] = math.sqrt(width)  # as long as what a layer normalization returns
        parts = [_with_bias(update, name) @ shape for name in whole]
        full += _add(found, parts, shape, noise)
    adapted = [name for name in layers if f"{name}.down.weight" in update]
    if adapted:
        downs = [update[f"{name}.down.weight"].double() for name in adapted]
        width = downs[0].shape[1]
        inputs = torch.eye(width + 1, dtype=torch.float64)[:-1]
        if any(bool(part.any()) for part in downs):
            full += _add(found, downs, inputs, noise)
        for name in adapted:
            below = sent[f"{name}.down.weight"].double() @ inputs
            full += _add(found, [update[f"{name}.up.weight"].double()], below, noise)
    if found:
        return tuple(found)
    which = " and ".join(layers)
    if not whole and not adapted:
        return f"no update of {which} was sent"
    return f"the update of {which} is of full rank: the batch has as many tokens as it has inputs, or noise is in it"


def distance(spans: Sequence[Span], inputs: Tensor) -> Tensor:
    """Largest relative distance of inputs (..., d) from any of the spans (...)."""
    return torch.stack([span.distance(inputs) for span in spans]).amax(0)


def _add(found: list[Span], parts: Sequence[Tensor], shape: Tensor, noise: Noise) -> int:
    """Append the span of the parts' rows where it is not all there is; 1 where it is all, or nothing."""
    kept = [(part / part.norm(), noise.spread / float(part.norm())) for part in parts if bool(part.any())]
    if not kept:
        return 1
    stacked = torch.cat([part for part, _ in kept])
    _, values, rows = torch.linalg.svd(stacked, full_matrices=False)
    loud = max(spread for _, spread in kept) * (math.sqrt(stacked.shape[0]) + math.sqrt(stacked.shape[1]))
    rank = int((values > max(FLOOR * float(values[0]), MARGIN * loud)).sum())
    rank = min(rank, int(noise.most * min(stacked.shape)))
    if rank == 0 or rank > min(stacked.shape) - SPARE:
        return 1
    found.append(Span(rows[:rank], shape))
    return 0


def _with_bias(update: Mapping[str, Tensor], name: str) -> Tensor:
    """A layer's update (outputs, inputs + 1), float64, the last column that of the bias."""
    weight = update[f"{name}.weight"].double()
    bias = update.get(f"{name}.bias")
    last = torch.zeros(len(weight), 1, dtype=torch.float64) if bias is None else bias.double()[:, None]
    return torch.cat([weight, last], 1)


def block_names(sent: Mapping[str, Tensor]) -> Iterator[str]:
    """Names of the blocks' parameters up to the block's number, in order, such as "0.blocks.1"."""
    yield from dict.fromkeys(name[: name.index(".", name.index("blocks.") + 7)] for name in sent if "blocks." in name)
