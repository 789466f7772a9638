"""What each record sends back through a network of linear layers: the parts its gradient is made of."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Passed:
    """n records' way through a network, layer by linear layer."""

    inputs: tuple[Tensor, ...]
    """Of each layer, (n, inputs of the layer)."""
    jacobians: tuple[Tensor, ...]
    """Of the logits by each layer's outputs, (n, classes, outputs of the layer)."""
    logits: Tensor
    """(n, classes)"""

    def slopes(self, layer: int, residual: Tensor) -> Tensor:
        """Slopes (n, outputs) at a layer's outputs, for the loss' slopes at the logits (n, classes)."""
        return (residual[:, None] @ self.jacobians[layer])[:, 0]


def pass_through(network: nn.Sequential, records: Tensor) -> Passed:
    """Run records (n, d) forward and each logit back. The network's other layers must work on each record alone."""
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
