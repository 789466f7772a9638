"""What the server gets of a client that fails: an error reply, as the run must go on without that client alone."""

from collections.abc import Callable

from flwr.app import Context, Error, Message
from flwr.common.constant import ErrorCode

from fedinv.errors import plain


def answered(app: Callable[[Message, Context], object], message: Message, context: Context) -> Message:
    """A client's reply to a message; what it raises, or returns in place of a reply, is an error reply of one line."""
    try:
        reply = app(message, context)
    except (Exception, SystemExit) as error:  # a client's fault is a reply, as on Flower's own engine
        return failed(message, f"{type(error).__name__}: {error}")
    if not isinstance(reply, Message):
        return failed(message, f"returned {type(reply).__name__} in place of a message")
    if reply.metadata.reply_to_message_id != message.metadata.message_id:
        return failed(message, "answered another message than it was sent")
    return reply


def failed(message: Message, reason: str) -> Message:
    """The error reply to a message whose client failed, with the reason."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, plain(reason, 300)), reply_to=message)
