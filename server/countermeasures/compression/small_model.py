"""Attacks the pruned model, which is the one that the client trained, on the weights that it kept."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge
from fedinv.defense_terms.small_model import kept


def look(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> Exchange:
    """The exchange with the pruned weights as sent, and the update without the change by pruning itself."""
    there = kept(last.sent, float(defense["keep"]))
    zero = torch.tensor(0.0)
    return replace(
        last,
        sent={name: torch.where(there[name], tensor, zero) for name, tensor in last.sent.items()},
        received={name: torch.where(there[name], tensor, zero) for name, tensor in last.received.items()},
    )


def masks(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> dict[str, Tensor]:
    """Weights that pruning kept, bool by parameter."""
    return kept(last.sent, float(defense["keep"]))
