"""Sends messages and waits for the replies, up to a timeout, and not for a node that vanished."""

import time
from collections.abc import Iterable

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedinv.federation.reply_codes import GONE

LOOK_SECONDS = 5.0
"""Seconds between checks of which nodes are connected; one that is missing at two in a row counts as gone."""
SHORTEST, LONGEST = 0.02, 0.5
"""Seconds between checks for replies, doubled from the shortest up to the longest."""


def ask(grid: Grid, messages: Iterable[Message], timeout: float) -> list[Message]:
    """Send messages and return their replies: an error for a node that vanished, none for one that is late.

    `timeout` is in seconds.
    """
    sent = list(messages)
    waiting = dict(zip(grid.push_messages(sent), sent, strict=True))
    replies: list[Message] = []
    missed: set[int] = set()
    began = looked = time.monotonic()
    pause = SHORTEST
    while True:
        for reply in grid.pull_messages(list(waiting)):
            asked = waiting.pop(reply.metadata.reply_to_message_id, None)
            if asked is not None:  # else an answer to a question that nobody waits for
                replies.append(_own(reply, asked))
        now = time.monotonic()
        if not waiting or now - began > timeout:
            return replies
        if now - looked > LOOK_SECONDS:
            looked, there = now, set(grid.get_node_ids())
            away = {message.metadata.dst_node_id for message in waiting.values()} - there
            for key, message in list(waiting.items()):
                if message.metadata.dst_node_id in away & missed:
                    replies.append(Message(Error(GONE, "its node vanished"), reply_to=waiting.pop(key)))
            missed = away
        time.sleep(pause)
        pause = min(2 * pause, LONGEST)


def _own(reply: Message, asked: Message) -> Message:
    """The reply with the asked node as its source, an error where it names another.

    Flower's own error replies name the server as theirs.
    """
    if reply.metadata.src_node_id == asked.metadata.dst_node_id:
        return reply
    error = reply.error if reply.has_error() else Error(ErrorCode.UNKNOWN, "answered in the name of another node")
    return Message(error, reply_to=asked)
