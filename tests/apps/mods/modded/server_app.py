"""A ServerApp that first asks every client by messages of its own, pushing and pulling them, then runs a strategy."""

import time

import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from modded.task import network

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    while len(list(grid.get_node_ids())) < 2:
        time.sleep(0.2)
    if context.run_config["ask-labels"]:
        ask(grid)
    strategy = FedAvg(fraction_evaluate=0.0)
    rounds = int(context.run_config["num-server-rounds"])
    torch.manual_seed(1)
    strategy.start(grid=grid, initial_arrays=ArrayRecord(network().state_dict()), num_rounds=rounds)


def ask(grid: Grid) -> None:
    waiting = set(grid.push_messages(Message(RecordDict(), node, "query.labels") for node in grid.get_node_ids()))
    while waiting:
        replies = list(grid.pull_messages(waiting))
        waiting -= {reply.metadata.reply_to_message_id for reply in replies}
        if waiting:
            time.sleep(0.1)
