"""Which weights a pruned model keeps: its clients train them, and anyone can compute them from the weights sent."""

from collections.abc import Mapping

import torch
from torch import Tensor


def kept(weights: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Masks (bool) by parameter: a weight's `share` of entries that are largest in absolute value; all of a bias.

    A weight is a tensor of two dimensions or more. Entries that are 0 are never kept, so that a pruned entry stays
    pruned.
    """
    found = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2:
            found[name] = torch.ones_like(tensor, dtype=torch.bool)
            continue
        sizes = tensor.abs().flatten()
        count = max(1, round(share * sizes.numel()))
        least = sizes.kthvalue(sizes.numel() - count + 1).values
        found[name] = (tensor.abs() >= least) & (tensor != 0)
    return found
