"""Sparse directions in a column space: the complete dictionary learning behind exact inversion."""

import torch
from torch import Tensor

from .. import clock

WRONG_SIGN = 1.0
"""Weight, relative to the l1 norm, of entries with the minority sign where all entries must have one sign."""
FLAT = 1e-12
"""Share of the largest eigenvalue up to which eigenvalues above the smallest count as equal to it."""


def sparse_directions(
    basis: Tensor, starts: int, iterations: int, generator: torch.Generator, one_signed: bool = False
) -> Tensor:
    """Unit directions q (r, m) for which basis @ q has the most zeros, sparsest first, without repeats.

    basis (h, r) with independent columns. Minimizes the smoothed l1 norm on the sphere by projected gradient descent
    (Sun, Qu, Wright 2015), from `starts` random points at once, in coordinates where the rows' covariance is the
    identity; then each is replaced by the null vector of the rows that it nearly annihilates. Null vectors of
    inactive units are Dimitrov et al. 2024 (SPEAR), section 4; dictionary learning for it is SPEAR++ (2025).
    With `one_signed` entries of the wrong sign cost more: where signals differ in their zeros alone, the difference of
    two has more zeros than either.
    """
    r = basis.shape[1]
    if r == 1:
        return torch.ones(1, 1, dtype=basis.dtype)
    norms = basis.norm(dim=1, keepdim=True)
    alive = norms[:, 0] > 1e-6 * norms.square().mean().sqrt()
    rows = basis[alive] / norms[alive]
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    whiten = vectors @ torch.diag(values.clamp_min(1e-12 * float(values[-1])).rsqrt()) @ vectors.T
    rows = rows @ whiten
    q = torch.randn(r, starts, dtype=basis.dtype, generator=generator)
    q = _descend(rows.float(), (q / q.norm(dim=0)).float(), iterations, one_signed).to(basis.dtype)
    q = _distinct(q, rows, 0.98, one_signed)
    for share in (0.3, 0.1):
        q = _polish(rows, q, share)
    q = whiten @ q
    return sparsest(basis, q / q.norm(dim=0), one_signed)


def sparsest(basis: Tensor, q: Tensor, one_signed: bool = False) -> Tensor:
    """The directions q (r, m), those with most zeros in basis @ q first, without repeats; see sparse_directions."""
    norms = basis.norm(dim=1, keepdim=True)
    alive = norms[:, 0] > 1e-6 * norms.square().mean().sqrt()
    return _distinct(q, basis[alive] / norms[alive], 0.999, one_signed)


def _descend(rows: Tensor, q: Tensor, iterations: int, one_signed: bool) -> Tensor:
    h, starts = len(rows), q.shape[1]
    # a smooth norm finds broad minima, a sharp one narrow ones; which of them are signals depends on the data
    smooth = torch.logspace(-1.0, -0.2, starts, dtype=rows.dtype)
    for i in range(iterations):
        clock.check()
        fade = 0.01 ** (i / iterations)
        slope = torch.tanh(rows @ q * (h**0.5 / (fade * smooth)))
        if one_signed:
            slope += WRONG_SIGN / 2 * (slope - 1)
        step = rows.T @ slope
        step -= q * (q * step).sum(0)
        q = q - 0.2 * fade * step / (step.norm(dim=0) + 1e-12)
        q = q / q.norm(dim=0)
    return q


def _polish(rows: Tensor, q: Tensor, share: float) -> Tensor:
    """Directions q (r, m) projected onto the null space of the rows (h, r) that each nearly annihilates.

    That space has one dimension, as a rule. It has more where the nearest of the rows hold but few of the signals,
    which rounding favors; then any of its directions would do for the rows, and the one nearest to q is the signal's.
    """
    count = max(2 * rows.shape[1], int(share * len(rows)))
    nearest = (rows @ q).abs().topk(min(count, len(rows)), dim=0, largest=False).indices.T
    parts = []
    for chosen, start in zip(torch.split(nearest, 64), torch.split(q.T, 64), strict=True):
        clock.check()
        values, vectors = torch.linalg.eigh(rows[chosen].transpose(1, 2) @ rows[chosen])
        null = values <= values[:, :1] + FLAT * values[:, -1:]
        parts.append((vectors @ (null * (start[:, None] @ vectors)[:, 0])[..., None])[..., 0])
    found: Tensor = torch.cat(parts).T
    unit: Tensor = found / found.norm(dim=0).clamp_min(1e-30)
    return unit


def _distinct(q: Tensor, rows: Tensor, alike: float, one_signed: bool) -> Tensor:
    values = rows @ q
    values = values / values.square().mean(0).sqrt()
    cost = values.abs().clamp_max(0.1).mean(0)
    if one_signed:
        cost += WRONG_SIGN * (-values * values.sum(0).sign()).clamp(0.0, 0.1).mean(0)
    order = cost.argsort()
    q = q[:, order]
    close = (q.T @ q).abs() > alike
    kept: list[int] = []
    for i in range(q.shape[1]):
        if not kept or not bool(close[i, kept].any()):
            kept.append(i)
    return q[:, kept]
