"""The span of a layer's update, in which the layer's inputs of every record lie.

A batch of n records updates layer l by D^T [H, 1], D being the slopes at its outputs and H its inputs. Where n is less
than the layer's inputs, the update's row space is the span of the records' own [h, 1], so that each of them can be
searched by itself. Span checks of one layer's inputs are Dimitrov et al. 2024 (SPEAR) and Petrov et al. 2024 (DAGER,
section 3, for tokens); here they are equations on mixed-type records, at the inputs and behind the first activation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..exact.first_layer import ROUNDING

MARGIN = 3.0
"""Factor by which a singular value must exceed the largest one of noise to count towards the rank."""
MIXED = 96
"""Equations that are kept of a wide layer, as random combinations: wrong records violate them almost surely."""
WIDE = 256
"""Width from which on a layer's update is factored by random projection and its equations are combined."""


@dataclass(frozen=True)
class Span:
    """A layer's update, float64, as left @ diag(values) @ right, and equations that vanish on its rows."""

    left: Tensor
    """Basis of the column space, orthonormal columns (outputs, rank)."""
    values: Tensor
    """Singular values, falling, (rank,)."""
    right: Tensor
    """Basis of the row space, orthonormal rows (rank, inputs + 1); the last column belongs to the bias."""
    equations: Tensor
    """Coefficients E with E [h, 1] = 0 for the inputs h of every record, (m, inputs + 1)."""

    @property
    def rank(self) -> int:
        """Number of records that can be separated, at most."""
        return len(self.values)

    def part(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Factors a (k,) for which the update minus a * slopes [inputs, 1]^T has a rank lower by one.

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
    # Halko et al. 2011, algorithm 4.4: one power iteration, as the directions of small singular values matter too
    probe = torch.randn(update.shape[1], records + 16, generator=generator, dtype=update.dtype)
    basis = torch.linalg.qr(update @ probe).Q
    basis = torch.linalg.qr(update @ torch.linalg.qr(update.T @ basis).Q).Q
    left, values, right = torch.linalg.svd(basis.T @ update, full_matrices=False)
    return basis @ left, values, right


def _orthogonal(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Rows (m, i) orthogonal to `rows` (r, i): orthonormal, or of wide layers MIXED random combinations of that space.

    Combinations are scaled so that a random vector has the same mean square residual.
    """
    missing = rows.shape[1] - len(rows)
    if rows.shape[1] <= WIDE:
        whole: Tensor = torch.linalg.qr(rows.T, mode="complete").Q
        return whole.T[len(rows) :]
    kept = min(missing, MIXED)
    drawn = torch.randn(kept, rows.shape[1], generator=generator, dtype=rows.dtype)
    for _ in range(2):  # twice is enough for orthogonality to working precision
        drawn = drawn - (drawn @ rows.T) @ rows
        drawn = torch.linalg.qr(drawn.T).Q.T
    scaled: Tensor = drawn * math.sqrt(missing / kept) if kept else drawn
    return scaled
