import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedinv.site import flower


def _records(arrays=None, metrics=None, configs=None):
    found = RecordDict()
    if arrays is not None:
        found["arrays"] = ArrayRecord({name: Array(np.asarray(one)) for name, one in arrays.items()})
    if metrics is not None:
        found["metrics"] = MetricRecord(metrics)
    for name, values in (configs or {}).items():
        found[name] = ConfigRecord(values)
    return found


@pytest.fixture
def records():
    """Makes the records of a message of arrays and metrics by name, and configurations by record."""
    return _records


@pytest.fixture
def sent():
    """The records of a round's message: a weight, a bias, and an integer buffer."""
    arrays = {"w": np.ones((2, 3), np.float32), "b": np.zeros(2, np.float32), "steps": np.int64(5)}
    return _records(arrays, configs={"config": {"server-round": 4}})


@pytest.fixture
def asked(sent, task_identity):
    """A message of the server's, as the SuperNode got it."""

    def make(kind="train", content=sent):
        message = Message(sent, 1, kind)
        message.metadata.__dict__["_message_id"] = "m" * 64
        return flower.Asked(message, content)

    return make


@pytest.fixture
def back():
    """Makes the arrays of an update: every float changed by as much, integers by one."""

    def make(change=0.5):
        w, b = np.full((2, 3), 1 + change, np.float32), np.full(2, change, np.float32)
        return {"w": w, "b": b, "steps": np.int64(6)}

    return make
