"""Selects the entries of largest absolute value."""

import torch
from torch import Tensor

from fedinv.federation.training import Update


def threshold(values: Tensor, keep: float) -> float:
    """Smallest absolute value among the share `keep` of entries that are largest; at least one entry is kept."""
    kept = max(1, round(keep * values.numel()))
    sizes = values.abs().flatten()
    return float(sizes.kthvalue(sizes.numel() - kept + 1).values)


def largest(update: Update, keep: float) -> Update:
    """Set all but the share `keep` of the entries, the largest over all parameters, to 0; ties are kept."""
    least = threshold(torch.cat([tensor.flatten() for tensor in update.values()]), keep)
    return {name: torch.where(tensor.abs() >= least, tensor, 0.0) for name, tensor in update.items()}
