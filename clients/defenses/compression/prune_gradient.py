"""Sends each parameter's largest entries alone.

Zhu, Liu, Han 2019 (Deep leakage from gradients), section 5.2, who found that pruning more than 20 % of a gradient
defends against their attack.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from fedinv.defense import Defense, Sending, Update

from ...mechanisms.pruning import largest


class PruneGradient(Defense):
    """update -> of each parameter the entries of largest absolute value, the others 0.

    Claims no differential privacy: heuristic. Costs about 4.1 bytes for each entry that is kept; hardly any time.
    """

    kind: Literal["prune-gradient"] = "prune-gradient"
    neutral: ClassVar[Mapping[str, Any] | None] = {"prune": 0.0}
    compresses = True
    prune: float = Field(default=0.7, ge=0, lt=1)
    """Share of each parameter's entries that is set to 0 and not sent."""

    def protect(self, update: Update, sending: Sending) -> Update:
        """Keep each parameter's largest entries; entries that are not finite count as 0."""
        kept = 1 - self.prune
        update = {name: torch.nan_to_num(tensor, 0.0, 0.0, 0.0) for name, tensor in update.items()}
        return {name: largest({name: tensor}, kept)[name] for name, tensor in update.items()}
