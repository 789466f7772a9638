"""Undo the steps uphill: what was trained on is the record moved, and weights and label tell how it was moved."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from fedinv.attack import Claim, Knowledge, Observation
from fedinv.defense_terms.adversarial_training import perturbed
from fedinv.task.columns import Categorical

from ..inversion.local_training import known_network

TRIES = 20
"""Times that the record is corrected by what the steps make of it."""


def trains_on_invalid_records(knows: Knowledge) -> bool:
    """A moved record is no valid one."""
    return True


def decode(
    claim: Claim, seen: Observation, defense: Mapping[str, Any], knows: Knowledge, rng: np.random.Generator
) -> Claim:
    """Records from which the client's steps lead to the claimed ones, categories made whole.

    A fixed point of x = claimed - (moved(x) - x), begun at the claimed record. Each local step moves a record anew, at
    weights of its own: of several the ones that were sent are taken, and numbers are approximate.
    """
    if knows.schema is None or knows.model is None or claim.labels is None:
        return replace(claim, notes=(*claim.notes, "too little is known to undo the steps"))
    network = known_network(knows.model, seen.last.sent, knows.schema)
    radius, steps, step = float(defense["radius"]), int(defense["steps"]), float(defense["step"])

    def whole(records: Tensor) -> Tensor:
        made = records.clone()
        for column, where in zip(knows.schema.columns, knows.schema.slices, strict=True):  # type: ignore[union-attr]
            if isinstance(column, Categorical):
                made[:, where] = nn.functional.one_hot(records[:, where].argmax(1), column.width).to(made)
        return made

    records = whole(claim.records)
    for _ in range(TRIES):
        moved = perturbed(network, records, claim.labels, radius, steps, step)
        records = whole(claim.records - (moved - records))
    return replace(claim, records=records, notes=(*claim.notes, "the steps of adversarial training were undone"))
