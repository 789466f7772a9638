"""Trains a layer on inputs that reveal less of the record.

Sun, Li, Wang, Yang, Li, Chen 2021 (Soteria: provable defense against privacy leakage in federated learning from
representation perspective), section 4 and equation 7.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.functional import linear

from fedinv.defense import Defense


class Soteria(Defense):
    """The update of one linear layer's weight is computed from perturbed inputs; the rest is trained as usual.

    Of each record's inputs r to that layer, the share `prune` with the largest |r_i| / |d r_i / d record| is set to 0
    in the gradient of that weight alone. Claims no differential privacy: heuristic. Costs the derivatives of all inputs
    of the layer in every step (as many backward passes as it has inputs), and no bytes.
    """

    kind: Literal["soteria"] = "soteria"
    neutral: ClassVar[Mapping[str, Any] | None] = {"prune": 0.0}
    no_own_gradients = "it changes a layer's gradient itself, which clipping by example does not see"
    layer: int = Field(default=-1, ge=-64, lt=64)
    """Position of the defended layer among the linear layers. -1 is the last one, whose input is the representation of
    the paper; 0 is the first one, whose input is the record itself or the output of the convolutions."""
    prune: float = Field(default=0.8, ge=0, le=1)
    """Share of each record's inputs to the layer that is set to 0."""

    def wrap_network(self, network: nn.Sequential, rng: np.random.Generator) -> nn.Sequential:
        """Replace the plain layer by the defended one. Raises ValueError where there is no such layer."""
        found = [name for name, layer in network.named_children() if isinstance(layer, nn.Linear)]
        if not -len(found) <= self.layer < len(found):
            raise ValueError(f"soteria.layer: {self.layer} is none of the {len(found)} linear layers")
        defended, below, records = found[self.layer], nn.Sequential(), list[Tensor]()
        wrapped = nn.Sequential()
        for name, layer in network.named_children():
            if name == defended:
                break
            below.add_module(name, layer)
        for name, layer in network.named_children():
            own = isinstance(layer, nn.Linear) and name == defended
            wrapped.add_module(name, _Defended(layer, self._mask(below, records)) if own else layer)  # type: ignore[arg-type]
        wrapped.register_forward_pre_hook(lambda _, inputs: records.__setitem__(slice(None), inputs))
        return wrapped

    def _mask(self, below: nn.Sequential, records: list[Tensor]) -> Callable[[Tensor], Tensor]:
        def mask(representation: Tensor) -> Tensor:
            """Mask of inputs (n, w): 1 for those that are kept, 0 for the others."""
            with torch.no_grad():
                revealing = representation.detach().abs() / _slopes(below, records[0].detach()).clamp_min(1e-12)
                removed = round(self.prune * revealing.shape[1])
                kept = torch.ones_like(revealing)
                return kept.scatter(1, revealing.topk(removed, dim=1).indices, 0.0)

        return mask


class _Defended(nn.Module):
    """A linear layer whose weight's gradient uses perturbed inputs; its outputs and bias use the true ones."""

    def __init__(self, layer: nn.Linear, mask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._mask = mask

    def forward(self, inputs: Tensor) -> Tensor:
        perturbed = (inputs * self._mask(inputs)).detach()
        learned = linear(perturbed, self.weight)
        return linear(inputs, self.weight.detach(), self.bias) + learned - learned.detach()


def _slopes(below: nn.Sequential, records: Tensor) -> Tensor:
    """Norm of each layer input's derivative by the record, (n, w)."""
    if not len(below):
        return torch.ones_like(records)
    parameters = {name: tensor.detach() for name, tensor in below.named_parameters()}
    buffers = dict(below.named_buffers())

    def represent(record: Tensor) -> Tensor:
        out: Tensor = functional_call(below, (parameters, buffers), (record[None],))
        return out[0]

    # one record at a time: the derivatives take the layer's width times the record's in memory
    return torch.stack([jacrev(represent)(record).norm(dim=1) for record in records])
