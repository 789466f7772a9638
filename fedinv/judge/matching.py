"""Matches claimed records with true ones and compares their fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedinv.judge.images import pair
from fedinv.task.columns import PADDING, Columns, Continuous, Tokens
from fedinv.task.schema import Schema

EXACT = 1e-3
"""Standard deviations within which a continuous field counts as exact."""


@dataclass(frozen=True)
class Match:
    """Matching of n true records with the claims about them, field by field."""

    claim: NDArray[np.int64]
    """Position of the claim that is matched with each true record, int64 (n,); -1 for none."""
    right: NDArray[np.bool_]
    """Whether each field of the matched claim is right, bool (n, fields); False without a claim."""
    exact: NDArray[np.bool_]
    """Whether all fields of the matched claim are right to EXACT standard deviations, bool (n,)."""

    @property
    def claimed(self) -> NDArray[np.bool_]:
        """Whether each true record is matched with a claim, bool (n,)."""
        return self.claim >= 0

    @property
    def recovered(self) -> NDArray[np.bool_]:
        """Whether every field of each true record is right, bool (n,)."""
        return np.asarray(self.right.all(axis=1))


def match(claims: Tensor, truth: Columns, schema: Schema, tolerance: float) -> Match:
    """Match claims (k, width) one to one with n true records, so that the most fields are right.

    A categorical field is right if it is equal, a continuous one if it is within `tolerance` standard deviations after
    clamping and rounding; the assignment is Hungarian (Kuhn 1955), ties are broken by distance. An image's fields are
    its pixels, and images are matched by least squared error. A text's are its positions, right if the token is equal.
    """
    if schema.tokens is not None:
        return _match_texts(claims, truth[schema.tokens.name], schema.tokens)
    if schema.image is not None:
        name, std = schema.image.name, schema.image.std
        if not len(claims):  # an attack that claims nothing may not know how wide a record is
            claims = claims.new_zeros(0, schema.width)
        return _match_images(schema.decode(claims)[name], truth[name], std, tolerance)
    distance = distances(schema.decode(claims), truth, schema)
    count = distance.shape[1]
    right = distance <= tolerance
    score = right.sum(2) + 0.5 * np.exp(-np.minimum(distance, 10.0)).mean(2)
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(score, maximize=True)
    claim = np.full(count, -1)
    claim[columns] = rows
    matched = np.zeros((count, len(schema.columns)), dtype=bool)
    matched[columns] = right[rows, columns]
    exact = np.zeros(count, dtype=bool)
    exact[columns] = (distance[rows, columns] <= EXACT).all(1)
    return Match(claim, matched, exact)


def _match_texts(claims: Tensor, truth: NDArray[np.int64], tokens: Tokens) -> Match:
    """Match claimed texts with true ones, ids (n, length), so that the most words are right; padding is no word."""
    from scipy.optimize import linear_sum_assignment

    read = tokens.decode(claims.double().numpy() if len(claims) else np.zeros((0, tokens.length)))
    same = read[:, None] == truth[None]
    rows, columns = linear_sum_assignment((same & (truth != PADDING)[None]).sum(2), maximize=True)
    claim, right = np.full(len(truth), -1), np.zeros(truth.shape, dtype=bool)
    claim[columns], right[columns] = rows, same[rows, columns]
    return Match(claim, right, right.all(1) & (claim >= 0))


def _match_images(claims: NDArray[np.float64], truth: NDArray[np.float64], std: float, tolerance: float) -> Match:
    """Match claimed images (k, pixels) with true ones (n, pixels)."""
    rows, columns = pair(claims, truth)
    away = np.abs(claims[rows] - truth[columns]) / std
    claim, right, exact = np.full(len(truth), -1), np.zeros(truth.shape, dtype=bool), np.zeros(len(truth), dtype=bool)
    claim[columns], right[columns], exact[columns] = rows, away <= tolerance, (away <= EXACT).all(1)
    return Match(claim, right, exact)


def distances(claims: Mapping[str, NDArray[Any]], truth: Columns, schema: Schema) -> NDArray[np.float64]:
    """Distance of each field of k claims from that of n true records, (k, n, fields).

    In standard deviations for a continuous column; 0 if equal and infinity if not for a categorical one.
    """
    parts = []
    for column in schema.columns:
        ours, theirs = claims[column.name], truth[column.name]
        if isinstance(column, Continuous):
            parts.append(np.abs(ours[:, None].astype(float) - theirs[None, :].astype(float)) / column.std)
        else:
            parts.append(np.where(ours[:, None] == theirs[None, :], 0.0, np.inf))
    return np.stack(parts, axis=2)
