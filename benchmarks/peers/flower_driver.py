"""Runs the workload on Flower's simulation with Ray, written as its own examples are."""

import logging
import os

os.environ |= {"RAY_DEDUP_LOGS": "0", "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from workload import arguments, data, epoch, model, now, report

logging.getLogger("flwr").setLevel(logging.ERROR)
asked = arguments()
client_app, server_app = ClientApp(), ServerApp()
began, ends = now(), []
held = {}


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Load the weights, train for an epoch, reply with the new weights."""
    torch.set_num_threads(1)
    if not held:
        held["inputs"], held["labels"] = data(asked.clients)
    client = int(context.node_config["partition-id"])
    network = model()
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    epoch(network, held["inputs"][client], held["labels"][client])
    metrics = MetricRecord({"num-examples": len(held["inputs"][client])})
    content = RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


class Timed(FedAvg):
    """FedAvg that records when rounds end."""

    def aggregate_train(self, server_round, replies):
        """Aggregate, and record the time."""
        result = super().aggregate_train(server_round, replies)
        ends.append(now())
        return result


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds, with all clients in each."""
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=asked.clients, min_available_nodes=asked.clients)
    strategy.start(grid, ArrayRecord(model().state_dict()), num_rounds=asked.rounds)


run_simulation(
    server_app,
    client_app,
    num_supernodes=asked.clients,
    backend_config={
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False},
    },
)
report(asked.clients, began, ends)
