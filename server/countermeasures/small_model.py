"""Attack the pruned model, which is what the client trained, by the weights that it kept."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedinv.attack import Exchange, Knowledge
from fedinv.defense_terms.small_model import kept


def look(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> Exchange:
    """The weights as the client pruned them, and the update without what pruning took away."""
    there = kept(last.sent, float(defense["keep"]))
    zero = torch.tensor(0.0)
    return replace(
        last,
        sent={name: torch.where(there[name], tensor, zero) for name, tensor in last.sent.items()},
        received={name: torch.where(there[name], tensor, zero) for name, tensor in last.received.items()},
    )


def masks(last: Exchange, defense: Mapping[str, Any], knows: Knowledge) -> dict[str, Tensor]:
    """Bool by parameter: what was kept."""
    return kept(last.sent, float(defense["keep"]))
