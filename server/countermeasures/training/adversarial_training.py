"""Undoes adversarial training's perturbation of the records, which follows from weights and label."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from fedinv.attack import Claim, Knowledge, Observation
from fedinv.defense_terms.adversarial_training import perturbed
from fedinv.task.columns import Categorical

from ...inversion.local_training import known_network

TRIES = 20
"""Iterations of the fixed point that leads from a perturbed record back to the original."""


def trains_on_invalid_records(knows: Knowledge) -> bool:
    """True: perturbed records are not valid ones."""
    return True


def decode(
    claim: Claim, seen: Observation, defense: Mapping[str, Any], knows: Knowledge, rng: np.random.Generator
) -> Claim:
    """The records that the client's perturbation turns into the claimed ones, categories made one-hot.

    A fixed point of x = claimed - (perturbed(x) - x), started at the claimed record. Each local step perturbs a record
    at weights of its own; of several the weights that were sent are used, and numbers are approximate.
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
