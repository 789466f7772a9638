"""Runs the workload in a plain loop without a simulator: one network, reset to the global weights for each client."""

import torch
from workload import arguments, data, epoch, model, now, report

asked = arguments()
inputs, labels = data(asked.clients)
network, began, ends = model(), now(), []
for _ in range(asked.rounds):
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    total = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
    for client in range(asked.clients):
        network.load_state_dict(start)
        epoch(network, inputs[client], labels[client])
        for name, tensor in network.state_dict().items():
            total[name] += tensor
    network.load_state_dict({name: tensor / asked.clients for name, tensor in total.items()})
    ends.append(now())
report(asked.clients, began, ends)
