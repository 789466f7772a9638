"""The ClientApp as Ray's workers run it; imports no more than clients need."""

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedinv import roles
from fedinv.engines.replies import answered


def client_app() -> ClientApp:
    """The ClientApp as an actor runs it: one thread, and whatever goes wrong becomes an error reply of one line."""
    torch.set_num_threads(1)
    app: ClientApp = roles.load("clients", "app").app

    def run(message: Message, context: Context) -> Message:
        return answered(app, message, context)

    return run  # type: ignore[return-value]
