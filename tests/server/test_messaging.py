import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity

from fedinv import roles
from fedinv.federation.reply_codes import GONE

waiting = roles.load("server", "messaging")


class Line:
    """A grid whose nodes answer after so many looks, or never; one may vanish."""

    def __init__(self, after, vanished=(), errors=()):
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1
        self.after, self.vanished, self.errors = after, set(vanished), errors
        self.looks, self.sent = 0, {}

    def push_messages(self, messages):
        for message in messages:
            key = f"m{message.metadata.dst_node_id}"
            message.metadata.__dict__["_message_id"] = key
            self.sent[key] = message
        return list(self.sent)

    def pull_messages(self, ids):
        self.looks += 1
        return [
            self.reply(self.sent[key]) for key in ids if self.looks > self.after[self.sent[key].metadata.dst_node_id]
        ]

    def reply(self, message):
        if message.metadata.dst_node_id not in self.errors:
            return Message(RecordDict(), reply_to=message)
        reply = Message(Error(5, "no such object"), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = SUPERLINK_NODE_ID  # as Flower notes it down
        return reply

    def get_node_ids(self):
        return [node for node in self.after if node not in self.vanished]


@pytest.fixture
def quick(monkeypatch):
    for name in ("LOOK_SECONDS", "SHORTEST", "LONGEST"):
        monkeypatch.setattr(waiting, name, 0.001)


def messages(*nodes):
    return [Message(RecordDict(), node, "train", group_id="1") for node in nodes]


def asked(line, timeout):
    replies = waiting.ask(line, messages(*line.after), timeout)
    return {reply.metadata.src_node_id: reply for reply in replies}


def test_all_replies_are_awaited(quick):
    assert sorted(asked(Line({1: 0, 2: 3, 3: 7}), 900.0)) == [1, 2, 3]


def test_who_is_late_is_missing(quick):
    assert sorted(asked(Line({1: 0, 2: 10**9}), 0.05)) == [1]


def test_a_node_that_vanished_is_not_waited_for(quick):
    replies = asked(Line({1: 0, 2: 10**9, 3: 20}, vanished={2}), 900.0)
    assert sorted(replies) == [1, 2, 3]
    assert (replies[2].error.code, replies[2].error.reason) == (GONE, "its node vanished")
    assert not replies[3].has_error()


def test_an_error_of_the_line_counts_as_the_nodes(quick):
    replies = asked(Line({1: 0, 2: 1}, errors={2}), 900.0)
    assert replies[2].error.reason == "no such object"
