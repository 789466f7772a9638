"""The default engine: Flower's apps in this process, on a Grid of our own, without Ray or a daemon.

Four files of fedinv/ use parts of flwr 1.41 that it does not publish, for want of public ones. This one gives each
message its id and its own containers by writing `__dict__`, and sets the task identity that messages outside a Flower
runtime need. federation/wire.py fills in arrays by `__dict__`, as their constructors take ten times as long.
engines/node_states.py stores states by Flower's serde, which public modules do not offer. engines/ray/driver.py runs on
the inside of Flower's simulation, to replace workers that die or hang.
"""

import copy
import gc
import logging
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedinv import roles
from fedinv.engines import DEFAULT, Options
from fedinv.engines.node_states import NodeStates
from fedinv.engines.replies import answered
from fedinv.errors import RequestError
from fedinv.scenario.scenario import Scenario
from fedinv.storage.checkpoints import read_progress
from fedinv.storage.run_folder import RunFolder

Config = dict[str, bool | float | int | str]
"""Flower's run configuration, by key."""

_RUN_ID = 1
_FIRST_NODE = 1000
"""Node id of client 0; the others follow, so that an id is never mistaken for a client's number."""

OnReply = Callable[[int], None]
"""Function that is called after each client's training with the number of the round."""


class InlineGrid(Grid):
    """A Grid that runs each message's ClientApp as soon as it is pushed, one after the other, in the order sent."""

    def __init__(self, app: ClientApp, clients: int, config: Config, states: NodeStates, on_reply: OnReply) -> None:
        """Serve `clients` nodes with `app`; `states` holds what they keep between rounds."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, SUPERLINK_NODE_ID, 1
        self._app, self._clients, self._config, self._states = app, clients, config, states
        self._on_reply = on_reply
        self._replies: dict[str, Message] = {}
        self._ids = count(1)
        self._run = Run.create_empty(_RUN_ID)
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
        """The ids of all nodes, available from the start."""
        return range(_FIRST_NODE, _FIRST_NODE + self._clients)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run every message's ClientApp and keep the replies until they are pulled; returns the messages' ids."""
        ids, last = [], None
        for message in messages:
            last = message
            message.metadata.__dict__["_message_id"] = str(next(self._ids))
            self._replies[message.metadata.message_id] = self._execute(message)
            ids.append(message.metadata.message_id)
            if "arrays" in message.content:  # the one message of a round that trains
                self._on_reply(int(message.metadata.group_id))
        if last is not None and last.metadata.message_type == "train":
            self._states.write(int(last.metadata.group_id))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages, each once."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull in one call."""
        return self.pull_messages(self.push_messages(messages))

    def _execute(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(
            run_id=_RUN_ID,
            node_id=node,
            node_config={"partition-id": node - _FIRST_NODE, "num-partitions": self._clients},
            state=self._states.read(node),
            run_config=self._config,
        )
        inner = copy.copy(message)
        # the payload's bytes are immutable: only their containers are copied, so that a mod may change its own
        inner.__dict__ = {**message.__dict__, "_content": _own(message.content)}
        reply = answered(self._app, inner, context)
        if message.metadata.message_type == "train":
            self._states.keep(node, context.state)
        reply.metadata.__dict__["_message_id"] = str(next(self._ids))
        return reply


def _own(content: RecordDict) -> RecordDict:
    """A copy of the containers, sharing the records' bytes."""
    return RecordDict({name: record.copy() for name, record in content.items()})


def device(scenario: Scenario) -> torch.device:
    """The device that clients are trained on. Raises RequestError for a GPU that torch does not find."""
    wanted, there = scenario.training.device, torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise RequestError('training.device: "cuda" is asked for, and torch finds no GPU: use "auto" or "cpu"')
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def how(scenario: Scenario) -> str:
    """How a scenario's clients are trained, as a phrase for the report: together as one stack, or why one by one."""
    alone: str | None = roles.load("clients", "training.cohort").why_alone(scenario)
    if alone is not None:
        return f"one by one, as {alone}"
    return "all clients of a round together" + (" on the GPU" if device(scenario).type == "cuda" else "")


def train(scenario: Scenario, out: Path, on_reply: OnReply = lambda _: None, options: Options = DEFAULT) -> None:
    """Run the scenario's federation in folder `out`, from its last checkpoint where there is one.

    Raises RequestError for a GPU that torch does not find, RunError when no client can be used or a file cannot be
    written.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server_app: ServerApp = roles.load("server", "app").app
    cohort = roles.load("clients", "training.cohort").Cohort(scenario, device(scenario))
    client_app: ClientApp = roles.load("clients", "app").client_app(cohort)
    config: Config = {"scenario": scenario.to_toml(), "out": str(out)}
    folder = RunFolder(out)
    begun = read_progress(folder, scenario.federation.rounds)
    states = NodeStates(folder.nodes, 0 if begun is None else begun.round, options.resumable)
    grid = InlineGrid(client_app, scenario.federation.clients, config, states, on_reply)
    thresholds = gc.get_threshold()
    gc.freeze()  # else every collection walks all objects of torch and flwr, a millisecond a client
    gc.set_threshold(100_000, 20, 20)  # else collections walk a round's messages, all alive, every thousand objects
    try:
        server_app(grid, Context(_RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), dict(config)))
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        states.close()
