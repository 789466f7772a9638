"""The gate stands on names that Flower does not publish: another Flower is refused, this one held to the gate."""

from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, iterate_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as loop
from flwr.supernode.nodestate import NodeStateFactory

from fedinv.errors import RequestError
from fedinv.federation.reply_codes import REFUSED
from fedinv.site import flower

RUN = 7


def test_flower_is_as_the_gate_expects_it():
    assert flower.faults() == ()
    flower.check()


def test_another_flower_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(loop, "_push_messages", lambda state, object_store, send: None)
    with pytest.raises(
        RequestError, match=r"_push_messages takes state, object_store, send in place of state, "
    ) as one:
        flower.install(lambda asked, reply: reply().content, flower.Limits(1e6, 1))
    assert "\n" not in str(one.value)
    monkeypatch.delattr(loop, "_push_messages")
    with pytest.raises(RequestError, match=r"start_client_internal:_push_messages is not there"):
        flower.check()
    monkeypatch.setattr(loop, "start_client_internal", lambda: None)
    assert any("does not call _pull_and_store_message" in one for one in flower.faults())
    monkeypatch.setattr(flower, "version", lambda _: "1.42.0")
    with pytest.raises(
        RequestError, match=r"flwr 1\.42\.0 is installed, and the gate is written for 1\.41: pip install"
    ):
        flower.check()


def content(value, metrics=None):
    arrays = ArrayRecord({"w": Array(np.full(3, value, np.float32))})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics or {"n": 1})})


def named(message):
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


@pytest.fixture
def site(monkeypatch, task_identity):
    """A SuperNode's loop with its own store, between an app and a SuperLink that are lists."""
    store_factory = ObjectStoreFactory()
    state = NodeStateFactory(objectstore_factory=store_factory).state()
    store, arrived, pushed, pulled = store_factory.store(), [], {}, []
    state.set_node_id(5)
    run = Run.create_empty(run_id=RUN)
    state.store_run(run)

    def send(message, tree, seconds):
        arrived.append((message, tree))
        return {one.object_id for one in iterate_object_tree(tree)}, "session"

    def ask(value, kind="train", fetched=True):
        """The server's message, pulled by the loop; what the app then fetches of it is gone from the store."""
        message = Message(content(value), 5, kind)
        message.metadata.__dict__["_run_id"] = RUN
        named(message)
        parts = {key: one.deflate() for key, one in get_all_nested_objects(message).items()}
        found = loop._pull_and_store_message(
            state=state,
            object_store=store,
            node_config={},
            receive=lambda: (message, get_object_tree(message)),
            get_run=None,
            get_fab=None,
            pull_object=lambda run_id, object_id: pulled.append(object_id) or parts[object_id],
            confirm_message_received=lambda run_id, message_id: None,
            trusted_entities=None,
        )
        assert found == RUN
        if fetched:
            store.delete(message.metadata.message_id)
        return message

    def reply(message):
        loop._insert_message(named(message), state, store)
        loop._push_messages(
            state=state,
            object_store=store,
            send=send,
            push_object=lambda run_id, session, object_id, part: pushed.__setitem__(object_id, part),
        )

    def install(judge, limits=None):
        monkeypatch.setattr(loop, "_pull_and_store_message", loop._pull_and_store_message)
        monkeypatch.setattr(loop, "_push_messages", loop._push_messages)
        flower.install(judge, limits or flower.Limits(1e6, 30))

    def received():
        ((message, tree),) = arrived
        return message if message.has_error() else flower._inflated(tree.object_id, pushed)

    doing = {"ask": ask, "reply": reply, "install": install, "received": received}
    return SimpleNamespace(**doing, arrived=arrived, pushed=pushed, pulled=pulled)


def test_what_leaves_is_what_the_judge_made_and_nothing_of_the_app_s(site):
    seen = []

    def judge(asked, reply):
        seen.append((asked.content, reply().content))
        return content(3)

    site.install(judge)
    message = site.ask(1)
    own = Message(content(2), reply_to=message)
    own.metadata.group_id = "patient-4711"
    site.reply(own)
    (down, back) = seen[0]
    assert [float(one["arrays"]["w"].numpy()[0]) for one in (down, back)] == [1, 2]
    arrived = site.received()
    assert float(arrived.content["arrays"]["w"].numpy()[0]) == 3
    assert arrived.metadata.reply_to_message_id == message.metadata.message_id
    assert arrived.metadata.group_id == message.metadata.group_id
    for _, one in get_all_nested_objects(own).items():
        assert one.object_id not in site.pushed or one.object_id == own.content["metrics"].object_id


def test_parts_that_two_messages_share_are_known_of_the_second(site):
    seen = []
    site.install(lambda asked, reply: seen.append(asked.content) or content(0))
    site.ask(1, fetched=False)
    site.pulled.clear()
    second = site.ask(1, "evaluate")
    assert len(site.pulled) == 1  # the message alone: its records were in the store already
    site.reply(Message(content(2), reply_to=second))
    assert [float(one["arrays"]["w"].numpy()[0]) for one in seen] == [1]


def test_a_judge_that_raises_lets_an_error_through_and_never_the_update(site):
    def judge(asked, reply):
        raise ZeroDivisionError("patient-4711")

    site.install(judge)
    site.reply(Message(content(2), reply_to=site.ask(1)))
    error = site.received().error
    assert (error.code, error.reason) == (REFUSED, "the site's policy failed")
    assert set(site.pushed) == {site.arrived[0][0].object_id}


def test_a_reply_to_no_open_message_is_not_sent_at_all(site):
    site.install(lambda asked, reply: content(3))
    message = site.ask(1)
    site.reply(Message(content(2), reply_to=message))
    assert len(site.arrived) == 1
    site.reply(Message(content(4), reply_to=message))
    assert len(site.arrived) == 1


def test_an_error_of_the_app_is_judged_too(site):
    site.install(lambda asked, reply: Error(2, "withheld") if reply().has_error() else content(0))
    site.reply(Message(Error(2, "patient-4711"), reply_to=site.ask(1)))
    assert site.received().error.reason == "withheld"


def test_a_reply_that_is_too_large_or_does_not_arrive_is_refused(site):
    reasons = []

    def judge(asked, reply):
        with pytest.raises(flower.Refused) as refused:
            reply()
        reasons.append(f"{refused.value}: {refused.value.detail}")
        return Error(REFUSED, "refused")

    site.install(judge, flower.Limits(100, 30))
    site.reply(Message(content(2), reply_to=site.ask(1)))
    assert reasons == ["the reply is too large: above 0.0001 MB: raise reply.megabytes"]
    missing = SimpleNamespace(get=lambda object_id: b"")
    message = Message(content(2), reply_to=site.ask(1))
    with pytest.raises(flower.Refused, match="did not arrive in time"):
        flower._reply(message, get_object_tree(message), missing, flower.Limits(1e6, 0.01))
