"""What one record alone must satisfy: a layer's inputs lie in the span of the rows of that layer's update.

A batch of n records updates layer l by D^T [H, 1], D being the slopes at its outputs and H its inputs. Where n is less
than the layer's inputs, the update's row space is the span of the records' own [h, 1], so that each of them can be
looked for by itself. Span checks of one layer's inputs are Dimitrov et al. 2024 (SPEAR) and Petrov et al. 2024 (DAGER,
section 3, for tokens); here they are equations on mixed-type records, at the inputs and behind the first activation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..exact.first_layer import ROUNDING

MARGIN = 3.0
"""Singular values count that exceed those of noise by this factor."""
MIXED = 96
"""Equations kept of a wide layer, as random mixtures: a record fulfills all of them or, almost surely, none."""
WIDE = 256


@dataclass(frozen=True)
class Span:
    """A layer's update, float64: left @ diag(values) @ right, and what is orthogonal to its rows."""

    left: Tensor
    """(outputs, rank), orthonormal columns."""
    values: Tensor
    """(rank,), falling."""
    right: Tensor
    """(rank, inputs + 1), orthonormal rows; the last column belongs to the bias."""
    equations: Tensor
    """(m, inputs + 1): E [h, 1] = 0 for the inputs h of every record."""

    @property
    def rank(self) -> int:
        """Records that can be told apart, at most."""
        return len(self.values)

    def part(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Factors (k,) a for which the update less a * slopes [inputs, 1]^T has a rank less by one.

        inputs (k, i), slopes (k, o), of records in the span. Wedderburn 1934: a = 1 / ([h, 1]^T U^+ s).
        """
        ahead = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1) @ self.right.T
        return 1 / ((ahead / self.values) * (slopes @ self.left)).sum(1)

    def outside(self, slopes: Tensor) -> Tensor:
        """Share (k,) of the length of slopes (k, o) that lies outside the update's column space."""
        rest = slopes - (slopes @ self.left) @ self.left.T
        share: Tensor = rest.norm(dim=1) / slopes.norm(dim=1).clamp_min(1e-300)
        return share


def span(update: Tensor, records: int, noise: float, generator: torch.Generator) -> Span:
    """Factor a layer's update (outputs, inputs + 1), float64, of a batch of at most `records`.

    `noise` is the standard deviation of known noise on each entry; float32 rounding adds to it.
    """
    left, values, right = _factors(update, records, generator)
    edge = math.sqrt(update.shape[0]) + math.sqrt(update.shape[1])
    std = math.hypot(noise, ROUNDING * float(update.square().mean().sqrt()))
    rank = min(int((values > MARGIN * std * edge).sum()), records)
    left, values, right = left[:, :rank], values[:rank], right[:rank]
    return Span(left, values, right, _orthogonal(right, generator))


def _factors(update: Tensor, records: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    if min(update.shape) <= max(WIDE, 2 * records):
        left, values, right = torch.linalg.svd(update, full_matrices=False)
        return left, values, right
    # Halko et al. 2011, algorithm 4.4: one power iteration, as the directions of least weight matter too
    probe = torch.randn(update.shape[1], records + 16, generator=generator, dtype=update.dtype)
    basis = torch.linalg.qr(update @ probe).Q
    basis = torch.linalg.qr(update @ torch.linalg.qr(update.T @ basis).Q).Q
    left, values, right = torch.linalg.svd(basis.T @ update, full_matrices=False)
    return basis @ left, values, right


def _orthogonal(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Orthonormal rows (m, i) orthogonal to `rows` (r, i); of many, MIXED random mixtures of the same mean square."""
    missing = rows.shape[1] - len(rows)
    kept = missing if rows.shape[1] <= WIDE else min(missing, MIXED)
    drawn = torch.randn(kept, rows.shape[1], generator=generator, dtype=rows.dtype)
    for _ in range(2):  # twice is enough for orthogonality to working precision
        drawn = drawn - (drawn @ rows.T) @ rows
        drawn = torch.linalg.qr(drawn.T).Q.T
    scaled: Tensor = drawn * math.sqrt(missing / kept) if kept else drawn
    return scaled
