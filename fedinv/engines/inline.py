"""The default engine: Flower's apps in this process, on a Grid of our own, without Ray or a daemon.

The one file that touches Flower's private parts: a message outside a Flower runtime needs a task identity and an id,
which flwr 1.41 sets nowhere public.
"""

import copy
import gc
import logging
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto  # pylint: disable=no-name-in-module
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedinv import files, roles
from fedinv.engines import DEFAULT, Options
from fedinv.scenario import Scenario

_RUN_ID = 1
_FIRST_NODE = 1000

OnReply = Callable[[int], None]
"""Called after each client's training with its round."""


class InlineGrid(Grid):
    """Runs each message's ClientApp at once, one after the other, in the order sent."""

    def __init__(self, app: ClientApp, contexts: dict[int, Context], states: "NodeStates", on_reply: OnReply) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, SUPERLINK_NODE_ID, 1
        self._app, self._contexts, self._states, self._on_reply = app, contexts, states, on_reply
        self._replies: dict[str, Message] = {}
        self._ids = count(1)
        self._run = Run.create_empty(_RUN_ID)
        self._run.primary_task_id = 1

    def set_run(self, run: Run) -> None:
        """Set the run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes, there from the start."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run every message's ClientApp; the replies wait to be pulled."""
        ids, last = [], None
        for message in messages:
            last = message
            message.metadata.__dict__["_message_id"] = str(next(self._ids))
            self._replies[message.metadata.message_id] = self._execute(message)
            ids.append(message.metadata.message_id)
            if "arrays" in message.content.array_records:  # the one message of a round that trains
                self._on_reply(int(message.metadata.group_id))
        if last is not None and last.metadata.message_type == "train":
            self._states.write(int(last.metadata.group_id), self._contexts)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over the replies to these messages."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull in one call."""
        return self.pull_messages(self.push_messages(messages))

    def _execute(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        inner = copy.copy(message)
        # the payload's bytes are immutable: only their containers are copied, so that a mod may change its own
        inner.__dict__ = {**message.__dict__, "_content": _own(message.content)}
        try:
            reply = self._app(inner, context)
        except Exception as error:  # a client's fault is a reply, as on Flower's own engine
            reason = f"{type(error).__name__}: {error}"
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        reply.metadata.__dict__["_message_id"] = str(next(self._ids))
        return reply


def _own(content: RecordDict) -> RecordDict:
    """The same records in containers of their own."""
    own = content.copy()
    for name, record in content.items():
        own[name] = record.copy()
    return own


class NodeStates:
    """What each node remembers between rounds, kept on disk after each round's training for a resumed run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, round_: int, contexts: dict[int, Context]) -> None:
        """Store all states as they are after a round. A resumed server may need this round's or the one before."""
        content = b"".join(
            len(state).to_bytes(8, "big") + state
            for state in (recorddict_to_proto(c.state).SerializeToString() for c in contexts.values())
        )
        files.write(self._path(round_), content)
        self._path(round_ - 2).unlink(missing_ok=True)

    def read(self, round_: int, contexts: dict[int, Context]) -> None:
        """Put the states back as they were after a round; before the first there are none."""
        if not self._path(round_).is_file():
            return
        content, at = self._path(round_).read_bytes(), 0
        for context in contexts.values():
            length = int.from_bytes(content[at : at + 8], "big")
            proto = RecordDictProto.FromString(content[at + 8 : at + 8 + length])
            context.state = recorddict_from_proto(proto)
            at += 8 + length

    def _path(self, round_: int) -> Path:
        return self._folder / f"nodes-{round_:04}.bin"


def train(scenario: Scenario, out: Path, on_reply: OnReply = lambda _: None, options: Options = DEFAULT) -> None:
    """Run the scenario's federation, from its last checkpoint in `out` where there is one.

    Raises RunError when no client can be used or the disk refuses.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server_app: ServerApp = roles.load("server", "app").app
    client_app: ClientApp = roles.load("clients", "app").app
    config = {"scenario": scenario.to_toml(), "out": str(out)}
    clients = scenario.federation.clients
    contexts = {
        _FIRST_NODE + i: Context(
            run_id=_RUN_ID,
            node_id=_FIRST_NODE + i,
            node_config={"partition-id": i, "num-partitions": clients},
            state=RecordDict(),
            run_config=dict(config),
        )
        for i in range(clients)
    }
    states = NodeStates(out / "checkpoint")
    progress = out / "checkpoint" / "progress.json"
    if progress.is_file():
        states.read(files.read_json(progress)["round"], contexts)
    grid = InlineGrid(client_app, contexts, states, on_reply)
    gc.freeze()  # or every collection walks all that torch and flwr ever made, a millisecond a client
    try:
        server_app(grid, Context(_RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), dict(config)))
    finally:
        gc.unfreeze()
