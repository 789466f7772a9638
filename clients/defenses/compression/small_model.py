"""Trains the largest weights alone: a pruned model.

Han, Pool, Tran, Dally 2015 (Learning both weights and connections), section 3, for magnitudes; Jiang et al. 2022
(Model pruning enables efficient federated learning), for a federation that prunes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from fedinv.defense import Defense, Job, LocalTraining, Trial, Update
from fedinv.defense_terms.small_model import kept


class SmallModel(Defense):
    """Weights that are not among the largest of their layer are 0 from the first round on; biases are kept.

    The choice depends on the weights that the server sent alone, so that all clients prune the same ones, and pruned
    weights stay pruned. Claims no differential privacy: heuristic, as compression of the model. Costs about 4.1 bytes
    for each weight that is kept after the first round, and one selection over all weights per round.
    """

    kind: Literal["small-model"] = "small-model"
    neutral: ClassVar[Mapping[str, Any] | None] = {"keep": 1.0}
    trials = (Trial(60),)
    compresses = True
    averaged_only = "weights that are pruned must stay 0, and a step beyond the mean moves them again"
    keep: float = Field(default=0.25, gt=0, le=1)
    """Share of each layer's weights that is kept and trained."""

    def wrap_training(self, training: LocalTraining) -> LocalTraining:
        """Prune the received weights and train the rest; the update of a pruned weight sets it to zero."""

        def train(job: Job) -> Update:
            weights = {name: tensor.detach().clone() for name, tensor in job.network.named_parameters()}
            masks = kept(weights, self.keep)
            handles = []
            with torch.no_grad():
                for name, parameter in job.network.named_parameters():
                    parameter.mul_(masks[name])
                    handles.append(parameter.register_hook(masks[name].mul))  # type: ignore[no-untyped-call]
            update = training(job)
            for handle in handles:
                handle.remove()
            return {
                name: torch.where(masks[name], tensor, -weights[name]) if name in masks else tensor
                for name, tensor in update.items()
            }

        return train
