"""Forward and backward pass of each record through a network of linear layers: the factors of its gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Passed:
    """Forward and backward pass of n records, one entry per linear layer."""

    inputs: tuple[Tensor, ...]
    """Inputs of each layer, (n, inputs of the layer)."""
    jacobians: tuple[Tensor, ...]
    """Jacobian of the logits by each layer's outputs, (n, classes, outputs of the layer)."""
    logits: Tensor
    """Logits, (n, classes)."""

    def slopes(self, layer: int, residual: Tensor) -> Tensor:
        """Gradient of the loss by a layer's outputs, (n, outputs), given its gradient by the logits (n, classes)."""
        return (residual[:, None] @ self.jacobians[layer])[:, 0]


def pass_through(network: nn.Sequential, records: Tensor) -> Passed:
    """Run records (n, d) forward and each logit backward. The other layers must treat each record by itself."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    hidden = records
    with torch.enable_grad():
        for module in network:
            if isinstance(module, nn.Linear):
                inputs.append(hidden.detach())
                hidden = module(hidden if outputs else hidden.detach())
                outputs.append(hidden)
            else:
                hidden = module(hidden)
        each = [
            torch.autograd.grad(hidden[:, c].sum(), outputs, retain_graph=True, allow_unused=True)
            for c in range(hidden.shape[1])
        ]
    jacobians = tuple(torch.stack([slopes[i] for slopes in each], 1) for i in range(len(outputs)))
    return Passed(tuple(inputs), jacobians, hidden.detach())
