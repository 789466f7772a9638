"""Sends the update's largest entries, the rest later.

Aji and Heafield 2017 (Sparse communication for distributed gradient descent); Stich, Cordonnier, Jaggi 2018
(Sparsified SGD with memory), algorithm 1, for the error feedback.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from fedinv.defense import Defense, Sending, Trial, Update

from ...mechanisms.pruning import largest


class TopK(Defense):
    """update -> its entries of largest absolute value over all parameters, the others 0.

    Claims no differential privacy: heuristic, as compression. Costs about 4.1 bytes for each entry that is kept,
    instead of 4 for every entry; hardly any time.
    """

    kind: Literal["top-k"] = "top-k"
    neutral: ClassVar[Mapping[str, Any] | None] = {"keep": 1.0}
    trials = (Trial(50),)
    compresses = True
    keep: float = Field(default=0.1, gt=0, le=1)
    """Share of the update's entries that is sent."""
    error_feedback: bool = True
    """True: entries that were not sent are added to the next round's update; it converges better."""

    def protect(self, update: Update, sending: Sending) -> Update:
        """Keep the largest entries, and the rest for the next round; entries that are not finite count as 0."""
        update = {name: torch.nan_to_num(tensor, 0.0, 0.0, 0.0) for name, tensor in update.items()}
        if self.error_feedback:
            update = {name: tensor + sending.memory.get(name, 0.0) for name, tensor in update.items()}
        sent = largest(update, self.keep)
        if self.error_feedback:
            sending.memory.update({name: tensor - sent[name] for name, tensor in update.items()})
        return sent
