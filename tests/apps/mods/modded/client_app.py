"""A ClientApp whose messages pass mods: one of its own for all of them, Flower's clipping for training alone."""

import time

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import arrays_size_mod, message_size_mod
from torch import nn

from modded.task import load_data, network


def timed(msg: Message, context: Context, call_next):
    """Count this node's messages in its state, and say how long the app took."""
    before = context.state.config_records.get("seen", ConfigRecord({"messages": 0}))
    context.state["seen"] = ConfigRecord({"messages": int(before["messages"]) + 1})
    begun = time.perf_counter()
    reply = call_next(msg, context)
    taken = MetricRecord({"seconds": time.perf_counter() - begun, "messages": context.state["seen"]["messages"]})
    reply.content["timed"] = ConfigRecord({**taken})
    return reply


app = ClientApp(mods=[timed])


@app.train(mods=[message_size_mod, arrays_size_mod])
def train(msg: Message, context: Context) -> Message:
    net = network()
    net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    x, y = load_data(int(context.node_config["partition-id"]))
    optimizer = torch.optim.SGD(net.parameters(), lr=float(context.run_config["lr"]), momentum=0.9)
    nn.functional.cross_entropy(net(x), y).backward()
    nn.utils.clip_grad_norm_(net.parameters(), float(context.run_config["clip.norm"]))
    optimizer.step()
    metrics = MetricRecord({"num-examples": len(x)})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=msg)


@app.query("labels")
def labels(msg: Message, context: Context) -> Message:
    """How many of each class a client has."""
    _, y = load_data(int(context.node_config["partition-id"]))
    counts = MetricRecord({"classes": torch.bincount(y, minlength=3).tolist()})
    return Message(RecordDict({"counts": counts}), reply_to=msg)
