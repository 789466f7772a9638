"""What a client's app does wrong becomes an error reply, on every engine that runs it in a process of ours."""

import pytest
from flwr.app import Context, Message, RecordDict

from fedinv.engines import replies
from fedinv.engines.ray import worker

pytestmark = pytest.mark.usefixtures("task_identity")


def asked():
    message = Message(RecordDict(), 1000, "train")
    message.metadata.__dict__["_message_id"] = "7"
    return message, Context(1, 1000, {}, RecordDict(), {})


def raising(error):
    def app(message, context):
        raise error

    return app


def answering_another(message, context):
    other, _ = asked()
    other.metadata.__dict__["_message_id"] = "8"
    return Message(RecordDict(), reply_to=other)


APPS = {
    "returned NoneType in place of a message": lambda message, context: None,
    "returned str in place of a message": lambda message, context: "hello",
    "answered another message than it was sent": answering_another,
    "SystemExit: 3": raising(SystemExit(3)),
    "ValueError: a?b": raising(ValueError("a\x1bb")),
    "MemoryError: ": raising(MemoryError()),
}


@pytest.mark.parametrize("said", APPS)
def test_whatever_goes_wrong_is_an_error_reply_of_one_line(said):
    reply = replies.answered(APPS[said], *asked())
    assert reply.has_error()
    assert reply.error.reason.strip() == said.strip()
    assert reply.metadata.reply_to_message_id == "7"


def test_rays_workers_answer_likewise(monkeypatch):
    class Role:
        app = staticmethod(lambda message, context: None)

    monkeypatch.setattr(worker.roles, "load", lambda role, module: Role)
    reply = worker.client_app()(*asked())
    assert "in place of a message" in reply.error.reason


def test_an_answer_passes_as_it_is():
    message, context = asked()
    right = Message(RecordDict(), reply_to=message)
    assert replies.answered(lambda *_: right, message, context) is right
