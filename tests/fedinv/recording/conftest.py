import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedinv.recording.grid import LocalGrid


@pytest.fixture(autouse=True)
def flowers_log():
    """Flower's log says what it says, whatever an engine that ran in this process before has silenced."""
    log = logging.getLogger("flwr")
    before = log.level
    log.setLevel(logging.INFO)
    yield
    log.setLevel(before)


@pytest.fixture
def echoing():
    """Makes a ClientApp with mods that adds 1 to what it is sent; the partition that the config names raises."""
    return _echoing


def _echoing(mods=None):
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content["config"]
        if config.get("fails") == context.node_config["partition-id"]:
            raise ValueError("the cat sat\non it")
        arrays = {name: array.numpy() + 1 for name, array in message.content["arrays"].items()}
        # what an app does to its own message changes nobody else's
        message.content["arrays"] = ArrayRecord()
        content = {"arrays": ArrayRecord({n: _array(a) for n, a in arrays.items()})}
        content["metrics"] = MetricRecord({"num-examples": 7, "loss": float("nan")})
        return Message(RecordDict(content), reply_to=message)

    @app.query("who")
    def who(message: Message, context: Context) -> Message:
        seen = context.state.config_records.get("seen", ConfigRecord({"times": 0}))
        context.state["seen"] = ConfigRecord({"times": int(seen["times"]) + 1})
        return Message(RecordDict({"seen": context.state["seen"]}), reply_to=message)

    return app


def _array(values):
    return Array(np.asarray(values))


@pytest.fixture
def local(echoing):
    """A Grid of three nodes."""
    return LocalGrid(echoing(), 3, {}, lambda message, reply: None)


@pytest.fixture
def asked(local):
    """Makes a round's messages to some nodes, which share one content as Flower's strategies do."""

    def make(values, nodes=(0, 1, 2), kind="train", **config):
        arrays = ArrayRecord({"w": _array(np.full((2, 3), values, np.float32)), "n": _array(np.int64(values))})
        content = RecordDict({"arrays": arrays, "config": ConfigRecord(config)})
        ids = list(local.get_node_ids())
        return [Message(content, ids[node], kind) for node in nodes]

    return make
