"""Masks that cancel in the sum stand in for SecAgg.

Bonawitz et al. 2017, section 4.1: clients i < j share a secret from which both draw the same mask; i adds it, j
subtracts it, modulo 2^64, so that a masked update is uniformly random and only the cohort's sum carries information.
The key agreement and the recovery from drop-outs are left out: the shared secrets come from the run's secret, which
no attack is given, and a round in which a client fails has no usable sum.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from fedinv.defense import Defense, Sending, Trial, Update
from fedinv.federation.ring import to_ring
from fedinv.federation.streams import stream


class Masking(Defense):
    """update -> fixed-point(weight * update) + sum of pairwise masks, modulo 2^64. Claims no differential privacy."""

    kind: Literal["masking"] = "masking"
    neutral: ClassVar[Mapping[str, Any] | None] = {}
    trials = (Trial(40, words="secure aggregation (masking)"),)
    secure_aggregation = True
    in_clear = "the number of examples of each client"

    def protect(self, update: Update, sending: Sending) -> Update:
        """Mask the update. Raises ValueError for one that is not finite, and for a cohort of one client."""
        if len(sending.cohort) < 2:
            raise ValueError("masking needs at least two clients in a round: nobody to share a mask with")
        ring = to_ring(update, sending.weight)
        for other in sending.cohort:
            if other == sending.client:
                continue
            first, second = sorted((sending.client, other))
            shared = stream(sending.seed, "mask", first, second, sending.round)
            for tensor in ring.values():
                words = shared.integers(-(2**63), 2**63 - 1, size=tensor.shape, dtype=np.int64, endpoint=True)
                # in place: a new tensor for each of many pairs would take longer than to draw its mask
                tensor.add_(torch.from_numpy(words), alpha=1 if sending.client == first else -1)
        return ring
