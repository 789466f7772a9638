"""Unmixes mixup's records: categories reveal shares and partners, then numbers follow from linear equations."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.attack import Claim, Knowledge, Observation
from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

PURE = 0.02
"""Distance from 0 or 1 up to which an entry of a one-hot column counts as not mixed."""
EVEN = 0.03
"""Distance of the larger share from one half below which the two records of a mixture cannot be separated."""
ALIKE = 0.05
"""Distance of an entry from the common share up to which a mixture counts as having that share."""


def trains_on_invalid_records(knows: Knowledge) -> bool:
    """Whether the update holds mixtures: after a single step; several steps have only the records in common."""
    return knows.algorithm == "fedsgd"


def random_network(knows: Knowledge) -> bool:
    """True: a mixture's label is none of the classes, so that its signal fits none of them."""
    return True


def decode(
    claim: Claim, seen: Observation, defense: Mapping[str, Any], knows: Knowledge, rng: np.random.Generator
) -> Claim:
    """The records that were mixed, as far as the claimed mixtures reveal them, with one-hot categories.

    A batch's mixtures are M = (a 1 + (1 - a) Q) Y, with a the larger share, Y the batch in some order and Q a
    permutation: in a one-hot column the entry a is a record's own, 1 - a its partner's, so that partners are found by
    their categories, and Y by solving the equations. A partner that is not found counts as an average record. After
    several local steps nothing is decoded.
    """
    if not trains_on_invalid_records(knows):
        return claim
    if knows.schema is None or not any(isinstance(c, Categorical) for c in knows.schema.columns):
        return replace(claim, notes=(*claim.notes, "mixtures are as they were: no column tells the shares"))
    schema, mixed = knows.schema, claim.records.double()
    share = _share(schema, mixed)
    if share is None or share < 0.5 + EVEN:
        reason = "the records are of several mixtures" if share is None else "both records count alike"
        records, sure = _categories(schema, mixed)[0], 0.3
    else:
        reason = f"records were unmixed, of which the larger had {share:.0%}"
        records, sure = _unmixed(schema, mixed, share), 1.0
    return replace(
        claim, records=records.float(), confidence=claim.confidence * sure, notes=(*claim.notes, f"mixup: {reason}")
    )


def _share(schema: Schema, mixed: Tensor) -> float | None:
    """The larger share of the mixtures; 1 where nothing is mixed, None where the mixtures have several shares."""
    tops = torch.cat([mixed[:, where].amax(1) for where in _hot(schema)])
    split = tops[(tops > 0.5 - PURE) & (tops < 1 - PURE)]
    if not len(split):
        return 1.0
    share = float(split.median())
    return share if bool(((split - share).abs() < ALIKE).double().mean() > 0.8) else None


def _hot(schema: Schema) -> list[slice]:
    return [w for c, w in zip(schema.columns, schema.slices, strict=True) if isinstance(c, Categorical)]


def _categories(schema: Schema, mixed: Tensor) -> tuple[Tensor, Tensor]:
    """The mixtures with one-hot categories, once those of the record with the larger share, once of its partner."""
    larger, smaller = mixed.clone(), mixed.clone()
    for where in _hot(schema):
        part = mixed[:, where]
        first = one_hot(part.argmax(1), part.shape[1]).to(part)
        rest = part - first * part.amax(1, keepdim=True)
        second = one_hot(rest.argmax(1), part.shape[1]).to(part)
        larger[:, where] = first
        smaller[:, where] = torch.where((part.amax(1) > 1 - PURE)[:, None], first, second)
    return larger, smaller


def _unmixed(schema: Schema, mixed: Tensor, share: float) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    own, partner = _categories(schema, mixed)
    hot = torch.cat([torch.arange(w.start, w.stop) for w in _hot(schema)])
    apart = (partner[:, None, hot] - own[None, :, hot]).abs().sum(-1) / 2
    who = torch.from_numpy(linear_sum_assignment(apart.numpy())[1])
    found = apart[torch.arange(len(who)), who] < 0.5
    equations = share * torch.eye(len(mixed), dtype=mixed.dtype)
    equations[found] += (1 - share) * one_hot(who[found], len(mixed)).to(mixed)
    records: Tensor = torch.linalg.solve(equations, mixed)
    # categories are known already; for numbers, an average partner adds 0, as they are standardized
    records[:, hot] = own[:, hot]
    return records
