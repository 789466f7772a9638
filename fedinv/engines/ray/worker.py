"""The ClientApp as Ray's workers run it; imports no more than clients need."""

import torch
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from fedinv import roles


def client_app() -> ClientApp:
    """The ClientApp as an actor runs it: one thread, and an exception becomes an error reply of one line."""
    torch.set_num_threads(1)
    app: ClientApp = roles.load("clients", "app").app

    def run(message: Message, context: Context) -> Message:
        try:
            return app(message, context)
        except Exception as error:  # a client that fails must reply so, and not end the simulation
            return failed(message, f"{type(error).__name__}: {error}")

    return run  # type: ignore[return-value]


def failed(message: Message, reason: str) -> Message:
    """The error reply to a message whose client failed, with the reason."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
