"""Runs the workload on pfl-research's FederatedAveraging; several processes under torch.distributed.run."""

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch.nn.functional import cross_entropy
from workload import BATCH, LR, arguments, data, model, now, report

asked = arguments()
inputs, labels = data(asked.clients)
network, began, ends = model(), now(), []
network.loss = lambda x, y, is_eval=False: cross_entropy(network(x), y)
network.metrics = lambda x, y, is_eval=True: {}


class Clock(TrainingProcessCallback):
    """Records when rounds end."""

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Record the time, and let training continue."""
        ends.append(now())
        return False, Metrics()


def backend():
    """A simulated backend with the records of all clients, the same for training and validation."""
    sampler = get_user_sampler("minimize_reuse", list(range(asked.clients)))
    users = FederatedDataset(lambda user: Dataset((inputs[user], labels[user])), sampler)
    return SimulatedBackend(training_data=users, val_data=users)


np.random.seed(0)
FederatedAveraging().run(
    algorithm_params=NNAlgorithmParams(
        central_num_iterations=asked.rounds,
        evaluation_frequency=10**9,
        train_cohort_size=asked.clients,
        val_cohort_size=0,
    ),
    backend=backend(),
    model=PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), 1.0)),
    model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=LR, local_batch_size=BATCH),
    callbacks=[Clock()],
)
report(asked.clients, began, ends)
