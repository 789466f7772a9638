"""A ClientApp for `benchmarks hostile`: two honest clients, and a third that is hostile in another way each round."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedinv import roles

HOSTILE = 2
"""Number of the client that is hostile; those before it are honest."""
LAST = (
    "another's name",
    "a node that is not there",
    "answers another message",
    "raises exit",
    "returns text",
    "returns none",
)
"""Ways that may end the client's process: Flower starts it no more in that run, so they come last."""
_CASES = Path(__file__).parents[1] / "tests/server/test_hostile_clients.py"


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ways() -> Mapping[str, Callable[[Message, Message], Any]]:
    """What a hostile client makes of its honest reply, by name: those that the tests try in one process."""
    found: Mapping[str, Callable[[Message, Message], Any]] = _module(_CASES).TRAIN
    return dict(sorted(found.items(), key=lambda way: LAST.index(way[0]) if way[0] in LAST else -1))


class HostileApp(ClientApp):
    """The clients' app, whose third client answers round n as the n-th of `ways` has it."""

    def __call__(self, message: Message, context: Context) -> Message:
        """The reply to a message, honest or not."""
        reply: Message = roles.load("clients", "app").client_app()(message, context)
        if message.metadata.message_type != "train" or context.node_config.get("partition-id") != HOSTILE:
            return reply
        config: Any = message.content["config"]
        answer: Message = list(ways().values())[(int(config["round"]) - 1) % len(ways())](reply, message)
        return answer


app = HostileApp()
