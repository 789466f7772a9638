"""The server's own step on a round's mean update, taken by Flower's strategy of the scenario's `federation.strategy`.

Flower's strategy gets the mean as the reply of a single client: that is all there is under secure aggregation, and the
wiretap has seen each update before. What the strategy remembers from round to round goes in and out as tensors, so that
a stopped run resumes with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from fedinv.federation import strategies, wire

Weights = Mapping[str, Tensor]
"""Tensors by parameter name."""
_MOMENTUM, _FIRST, _SECOND = "momentum:", "first:", "second:"
_Outcome = tuple[ArrayRecord | None, dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Stepped:
    """The outcome of a server's step."""

    weights: dict[str, Tensor]
    """The new global model, float32 by parameter name."""
    memory: dict[str, Tensor]
    """What the strategy remembers for the next round, by its own and the parameter's name; empty for fedavg."""


def step(table: strategies.Table, sent: Weights, mean: Weights, memory: Weights, round_: int) -> Stepped:
    """The global model after a round in which `sent` was sent and `mean` is the mean update, LOCAL MINUS GLOBAL.

    A batch normalization's running statistics are averaged, whatever the strategy: they are no weights that descend,
    and a step beyond the mean could make a variance negative.
    """
    averaged = {name: tensor + mean[name] for name, tensor in sent.items()}
    taken = [name for name in sent if not name.rpartition(".")[2].startswith("running_")]
    if isinstance(table, strategies.FedAvg) or not taken:
        return Stepped(averaged, {})
    begun = {name: sent[name] for name in taken}
    request = Message(RecordDict(), dst_node_id=1, message_type="train")
    mean_model = wire.pack({name: averaged[name] for name in taken})
    content = RecordDict({"arrays": mean_model, "metrics": MetricRecord({"num-examples": 1})})
    reply = Message(content, reply_to=request)
    if isinstance(table, strategies.FedAvgM):
        arrays, kept = _with_momentum(table, begun, memory, round_, reply)
    else:
        arrays, kept = _adaptive(table, begun, memory, round_, reply)
    if arrays is None:
        raise ValueError("Flower's strategy gave no model")
    # Flower's own step is in float64 where its learning rate is one of NumPy's
    stepped = {name: from_numpy(arrays[name].numpy().astype(np.float32)) for name in taken}
    remembered = {name: from_numpy(np.ascontiguousarray(array, np.float32)) for name, array in kept.items()}
    return Stepped({name: stepped.get(name, tensor) for name, tensor in averaged.items()}, remembered)


def _with_momentum(table: strategies.FedAvgM, begun: Weights, memory: Weights, round_: int, reply: Message) -> _Outcome:
    own = flower.FedAvgM(server_learning_rate=table.server_learning_rate, server_momentum=table.server_momentum)
    own.current_arrays = wire.pack(begun)
    if memory:
        own.momentum_vector = [memory[_MOMENTUM + name].numpy() for name in begun]
    arrays, _ = own.aggregate_train(round_, [reply])
    velocity = own.momentum_vector or []  # none without momentum
    return arrays, {_MOMENTUM + name: array for name, array in zip(begun, velocity, strict=False)}


def _adaptive(
    table: strategies.FedAdam | strategies.FedYogi, begun: Weights, memory: Weights, round_: int, reply: Message
) -> _Outcome:
    kind = flower.FedAdam if isinstance(table, strategies.FedAdam) else flower.FedYogi
    own = kind(eta=table.eta, beta_1=table.beta_1, beta_2=table.beta_2, tau=table.tau)
    own.current_arrays = {name: tensor.numpy() for name, tensor in begun.items()}
    if memory:
        own.m_t = {name: memory[_FIRST + name].numpy() for name in begun}
        own.v_t = {name: memory[_SECOND + name].numpy() for name in begun}
    arrays, _ = own.aggregate_train(round_, [reply])
    first, second = own.m_t or {}, own.v_t or {}
    return arrays, {_FIRST + name: first[name] for name in begun} | {_SECOND + name: second[name] for name in begun}
