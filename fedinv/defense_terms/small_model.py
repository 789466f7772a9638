"""Which weights a pruned model keeps: what its clients train and what everyone can tell from the weights sent."""

from collections.abc import Mapping

import torch
from torch import Tensor


def kept(weights: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Bool by parameter: of each weight (tensors of two dimensions or more) the entries of largest size, of biases all.

    Entries that are 0 are never kept, so that what was pruned once stays pruned.
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
