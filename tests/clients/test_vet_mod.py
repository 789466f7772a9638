"""Detectors as a Flower mod of an app that is not fedinv's own."""

import logging

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import fedinv
from fedinv.errors import RequestError

pytestmark = pytest.mark.usefixtures("task_identity")


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))


def sent(weights, round_=1, kind="train"):
    arrays = ArrayRecord({name: Array(tensor.detach().numpy().copy()) for name, tensor in weights.items()})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": round_})})
    message = Message(content, 7, kind)
    message.metadata.__dict__["_message_id"] = f"m{round_}"
    return message


@pytest.fixture
def context():
    return Context(1, 7, {"partition-id": 0}, RecordDict(), {})


def app_with(*mods, step=1.0):
    """An app whose training adds `step` to each number; with the list of rounds that it trained in."""
    app, trained = ClientApp(mods=list(mods)), []

    @app.train()
    def train(message, context):
        trained.append(int(message.content["config"]["server-round"]))
        arrays = {name: Array(array.numpy() + np.float32(step)) for name, array in message.content["arrays"].items()}
        return Message(
            RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 3})}), reply_to=message
        )

    return app, trained


def crafted():
    """Weights whose first layer has equal rows and one unit's bias that only few records pass."""
    weights = {name: tensor.detach().clone() for name, tensor in network().state_dict().items()}
    weights["0.weight"][:] = weights["0.weight"][0]
    return weights


def test_crafted_weights_are_refused_before_the_app_trains_and_honest_ones_are_trained_on(context, caplog):
    app, trained = app_with(fedinv.vet(["row-cosines:action=refuse"]))
    assert not app(sent(network().state_dict()), context).has_error()
    with caplog.at_level(logging.WARNING, "flwr"):
        reply = app(sent(crafted(), 2), context)
    assert reply.error.reason == "fedinv vet: refused the weights it was sent: row-cosines is 1, above 0.9"
    assert "fedinv vet: row-cosines is 1, above 0.9" in caplog.text
    assert trained == [1]


def test_a_report_lets_the_app_answer(context, caplog):
    app, trained = app_with(fedinv.vet([{"kind": "row-cosines"}]))
    with caplog.at_level(logging.WARNING, "flwr"):
        assert not app(sent(crafted()), context).has_error()
    assert "row-cosines" in caplog.text
    assert trained == [1]


def test_what_was_sent_before_is_kept_so_that_the_same_weights_again_are_seen(context):
    app, trained = app_with(fedinv.vet(["repeated-weights:action=refuse"]))
    weights = network().state_dict()
    assert not app(sent(weights), context).has_error()
    assert app(sent(weights, 2), context).has_error()
    moved = {name: tensor + 0.5 for name, tensor in weights.items()}
    assert not app(sent(moved, 3), context).has_error()
    assert trained == [1, 3]


@pytest.mark.parametrize("names", ["own", "positions"])
def test_rows_that_hardly_a_record_fires_go_back_as_they_came(context, names):
    weights = {name: tensor.detach().clone() for name, tensor in network().state_dict().items()}
    weights["0.bias"][3] = -1e6
    inputs, labels = torch.randn(10, 20), torch.arange(10) % 2
    mod = fedinv.vet(["bias-size:action=drop-rows", "jump"], network=network(), own=lambda context: (inputs, labels))
    app, _ = app_with(mod)
    given = weights if names == "own" else {str(at): tensor for at, tensor in enumerate(weights.values())}
    back = [torch.from_numpy(array.numpy()) for array in app(sent(given), context).content["arrays"].values()]
    moved = [bool((new - old).any()) for new, old in zip(back[0], weights["0.weight"], strict=True)]
    assert not moved[3]
    assert sum(moved) >= 12
    assert float(back[1][3]) == -1e6


def test_weights_that_are_not_finite_and_none_at_all_are_refused_and_other_messages_pass(context):
    app, trained = app_with(fedinv.vet(["bias-size"]))

    @app.evaluate()
    def evaluate(message, context):
        return Message(RecordDict(), reply_to=message)

    broken = crafted()
    broken["0.bias"][0] = float("nan")
    assert "0.bias holds values that are not finite" in app(sent(broken), context).error.reason
    assert "has 0 records of arrays" in app(sent({}), context).error.reason
    assert not app(sent(broken, kind="evaluate"), context).has_error()
    assert trained == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["bias-sise"], "unknown detector 'bias-sise' .did you mean 'bias-size'"),
        (["bias-size:treshold=1"], "detector bias-size: treshold: unknown key"),
        (["bias-size:action=clip"], "a mod does not see gradients to clip"),
        (["bias-size:action=drop-rows"], "needs the network and the records"),
        (["bias-size:loud"], "'loud' is no setting"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(asked, said):
    with pytest.raises(RequestError, match=said):
        fedinv.vet(asked)
