"""A Grid for any Flower app in this process: each message's ClientApp runs when it is pushed, one after the other."""

import copy
from collections.abc import Callable, Iterable
from itertools import count
from threading import Lock, get_ident

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedinv.errors import RunError
from fedinv.recording.app import Config

RUN_ID = 1
"""Number of the one run in a process."""
FIRST_NODE = 1000
"""Node id of partition 0; the others follow."""
PATIENCE = 20
"""Times that an app may ask for the nodes without sending anything: one that waits for more would wait forever."""


class LocalGrid(Grid):
    """Nodes with a state each, served by one ClientApp; what a client raises is an error reply, as on Flower's engines.

    It stands on the same parts of Flower as engines/inline.py: the task identity that messages outside of a Flower
    runtime need, and ids that it writes into their metadata.
    """

    def __init__(
        self, app: ClientApp, nodes: int, config: Config, on_reply: Callable[[Message, Message], None]
    ) -> None:
        """Serve `nodes` nodes with `app`; `on_reply` is called with each message and its reply."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SUPERLINK_NODE_ID, 1
        self._app, self._on_reply = app, on_reply
        self._contexts = {
            FIRST_NODE + partition: Context(
                run_id=RUN_ID,
                node_id=FIRST_NODE + partition,
                node_config={"partition-id": partition, "num-partitions": nodes},
                state=RecordDict(),
                run_config=dict(config),
            )
            for partition in range(nodes)
        }
        self._replies: dict[str, Message] = {}
        self._ids = count(1)
        self._asked, self._thread = 0, get_ident()
        self._lock = Lock()  # older strategies send from threads, and an app expects a process of its own
        self._run = Run.create_empty(RUN_ID)
        self._run.primary_task_id = 1

    def set_run(self, run: Run) -> None:
        """Set the run's description, which Flower's interface asks for."""
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
        """The ids of all nodes, there from the start. Raises RunError where the app waits for more of them."""
        self._asked += 1
        # older strategies ask from a thread of their own, again and again for as long as they run
        if self._asked > PATIENCE and get_ident() == self._thread:
            there = len(self._contexts)
            raise RunError(f"the app waits for more than {there} node{'s' if there > 1 else ''}: raise --nodes")
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run every message's ClientApp and keep the replies until they are pulled; returns the messages' ids."""
        ids = []
        for message in messages:
            with self._lock:
                self._asked = 0
                message.metadata.__dict__["_message_id"] = str(next(self._ids))
                reply = self._reply(message)
                reply.metadata.__dict__["_message_id"] = str(next(self._ids))
                self._replies[message.metadata.message_id] = reply
                self._asked = 0
            ids.append(message.metadata.message_id)
            self._on_reply(message, reply)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages, each once."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull in one call."""
        return self.pull_messages(self.push_messages(messages))

    def _reply(self, message: Message) -> Message:
        context = self._contexts.get(message.metadata.dst_node_id)
        if context is None:
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, "there is no such node"), reply_to=message)
        inner = copy.copy(message)
        # bytes are shared, and all that holds them is copied: neither side can change what the other one has
        inner.__dict__ = {**message.__dict__, "_content": copy.deepcopy(message.content)}
        try:
            reply = self._app(inner, context)
            if not isinstance(reply, Message):
                raise TypeError(f"the ClientApp returned {type(reply).__name__} in place of a Message")
        except (Exception, SystemExit) as error:  # a client's fault is a reply, in the words of Flower's own engine
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        if reply.has_content():
            reply.__dict__["_content"] = copy.deepcopy(reply.content)
        return reply
