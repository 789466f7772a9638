"""The tap at the server: a Grid that records what it carries and changes nothing of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedinv.errors import RequestError
from fedinv.recording.recorder import Recorder, chosen, is_training, round_of


class Rounds:
    """Numbers the rounds of messages that do not name theirs, and ranks the clients of each round."""

    def __init__(self) -> None:
        self._current, self._answered = 0, False
        self._asked: set[int] = set()
        self._ranks: dict[int, dict[int, int]] = {}

    def number(self, messages: Sequence[Message]) -> list[int]:
        """The rounds of messages sent together, from 1.

        Where they name none, a round begins with the first messages of training after a reply, or with the second one
        to the same client.
        """
        return [self._one(message) for message in messages]

    def rank(self, round_: int, node: int) -> int:
        """The place of a client in the order in which a round's clients were sent their first message, from 0."""
        ranks = self._ranks.setdefault(round_, {})
        return ranks.setdefault(node, len(ranks))

    def answered(self) -> None:
        """Note that replies have come."""
        self._answered = True

    def _one(self, message: Message) -> int:
        named, node = round_of(message), message.metadata.dst_node_id
        if named is not None:
            if named != self._current:
                self._begin(named)
            return named
        if not is_training(message):
            return max(1, self._current)
        if self._answered or node in self._asked or not self._current:
            self._begin(self._current + 1)
        self._asked.add(node)
        return self._current

    def _begin(self, round_: int) -> None:
        self._current, self._answered, self._asked = round_, False, set()


class TappedGrid(Grid):
    """A Grid around another one, which still does all the work."""

    def __init__(self, grid: Grid, recorder: Recorder, rounds: frozenset[int] | None, clients: int | None) -> None:
        """Record these rounds, None for all, and at most so many clients of each."""
        self._grid, self._recorder, self._only, self._clients = grid, recorder, rounds, clients
        self._lock, self._rounds = Lock(), Rounds()
        self._waiting: dict[str, str] = {}
        """Names in the recording by the id of the message that waits for its reply."""

    def __getattr__(self, name: str) -> Any:
        """Whatever else the engine's own Grid offers."""
        if "_grid" not in self.__dict__:  # while it is copied
            raise AttributeError(name)
        return getattr(self._grid, name)

    def set_run(self, run: Run) -> None:
        """Set the run of the Grid inside."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run of the Grid inside."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message to a node, made by the Grid inside."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """The ids of the nodes that the Grid inside has."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The nodes that the Grid inside has."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Record the messages and push them; returns what the Grid inside returns."""
        listed = list(messages)  # Flower's own Grid goes over them twice: a generator would send nothing
        keys = self._sent(listed)
        ids = self._grid.push_messages(listed)
        self._wait(listed, keys)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull the replies to these messages and record them."""
        return self._received(self._grid.pull_messages(list(message_ids)))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull in one call, and record both."""
        listed = list(messages)
        keys = self._sent(listed)
        replies = list(self._grid.send_and_receive(listed, timeout=timeout))
        self._wait(listed, keys)  # only now have they got their ids
        return self._received(replies)

    def _sent(self, messages: Sequence[Message]) -> list[str | None]:
        """Record messages; their names in the recording, None for those that are not kept."""
        try:
            with self._lock:
                rounds = self._rounds.number(messages)
                watched = [self._watches(r, m.metadata.dst_node_id) for r, m in zip(rounds, messages, strict=True)]
        except Exception as error:  # whatever an app sends, it is the engine that judges it
            self._recorder.fault(error)
            return [None] * len(messages)
        found = zip(messages, rounds, watched, strict=True)
        return [self._recorder.sent(message, round_) if kept else None for message, round_, kept in found]

    def _watches(self, round_: int, node: int) -> bool:
        rank = self._rounds.rank(round_, node)
        return (self._only is None or round_ in self._only) and (self._clients is None or rank < self._clients)

    def _wait(self, messages: Sequence[Message], keys: Sequence[str | None]) -> None:
        with self._lock:
            for message, key in zip(messages, keys, strict=True):
                # a message that the Grid did not accept has got no id, or one that nobody replies to
                if key is not None and message.metadata.message_id:
                    self._waiting[message.metadata.message_id] = key

    def _received(self, replies: Iterable[Message]) -> list[Message]:
        listed = list(replies)
        for reply in listed:
            with self._lock:
                self._rounds.answered()
                key = self._waiting.pop(reply.metadata.reply_to_message_id, None)
            if key is not None:
                self._recorder.received(key, reply)
        return listed


def tap(
    grid: Grid, folder: str | Path, rounds: Iterable[int] | int | None = None, clients: int | None = None
) -> TappedGrid:
    """A Grid that records; see `fedinv.tap`."""
    if not isinstance(grid, Grid):
        raise RequestError(f"grid: must be the Grid that the ServerApp's main is given, not {type(grid).__name__}")
    if clients is not None and (not isinstance(clients, int) or clients < 1):
        raise RequestError(f"clients: must be a whole number from 1, or None for all, not {clients!r}")
    recorder = Recorder(folder, "server")
    recorder.open()
    return TappedGrid(grid, recorder, chosen(rounds), clients)
