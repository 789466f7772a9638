"""Sending messages and waiting for the replies: no longer than is allowed, and not for a node that is gone."""

import time
from collections.abc import Iterable

from flwr.app import Error, Message
from flwr.serverapp import Grid

from fedinv.federation.reply_codes import GONE

LOOK_SECONDS = 5.0
"""Between looks at which nodes are still there; one that is missed at two of them is gone."""
SHORTEST, LONGEST = 0.02, 0.5
"""Seconds between looks for replies, longer and longer."""


def ask(grid: Grid, messages: Iterable[Message], timeout: float) -> list[Message]:
    """The replies that came, and an error in place of one that cannot come any more; the late ones are missing."""
    sent = list(messages)
    waiting = dict(zip(grid.push_messages(sent), sent, strict=True))
    replies: list[Message] = []
    missed: set[int] = set()
    began = looked = time.monotonic()
    pause = SHORTEST
    while True:
        for reply in grid.pull_messages(list(waiting)):
            replies.append(_own(reply, waiting.pop(reply.metadata.reply_to_message_id)))
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
    """The reply as the asked node's: Flower notes an error of its own down as if the server had sent it."""
    if reply.has_error() and reply.metadata.src_node_id != asked.metadata.dst_node_id:
        return Message(reply.error, reply_to=asked)
    return reply
