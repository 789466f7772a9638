"""The largest entries of an update."""

import torch
from torch import Tensor

from fedinv.federation.training import Update


def threshold(values: Tensor, keep: float) -> float:
    """The size of the smallest entry that is kept, of this share of all; at least one is."""
    kept = max(1, round(keep * values.numel()))
    sizes = values.abs().flatten()
    return float(sizes.kthvalue(sizes.numel() - kept + 1).values)


def largest(update: Update, keep: float) -> Update:
    """Zero all but this share of the entries, the largest in size over all parameters.

    Ties are kept.
    """
    least = threshold(torch.cat([tensor.flatten() for tensor in update.values()]), keep)
    return {name: torch.where(tensor.abs() >= least, tensor, 0.0) for name, tensor in update.items()}
