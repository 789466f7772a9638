"""Runs the workload with Opacus' DP-SGD as documented: a new engine, optimizer and data loader for each client."""

import warnings

import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from workload import BATCH, LR, arguments, data, model, now, report

warnings.simplefilter("ignore")
asked = arguments()
inputs, labels = data(asked.clients)
server, criterion, began, ends = model(), nn.CrossEntropyLoss(), now(), []
for _ in range(asked.rounds):
    total = {name: torch.zeros_like(tensor) for name, tensor in server.state_dict().items()}
    for client in range(asked.clients):
        network = model()
        network.load_state_dict(server.state_dict())
        private, sgd, loader = PrivacyEngine().make_private(
            module=network,
            optimizer=torch.optim.SGD(network.parameters(), LR),
            data_loader=DataLoader(TensorDataset(inputs[client], labels[client]), batch_size=BATCH),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            poisson_sampling=True,
        )
        for records, classes in loader:
            sgd.zero_grad()
            criterion(private(records), classes).backward()
            sgd.step()
        for name, tensor in network.state_dict().items():
            total[name] += tensor
    server.load_state_dict({name: tensor / asked.clients for name, tensor in total.items()})
    ends.append(now())
report(asked.clients, began, ends)
