"""Flower messages as lines of a recording; whatever goes wrong there is said once, and the training goes on."""

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TypeVar
from uuid import uuid4

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedinv.errors import RequestError, plain
from fedinv.recording.lines import Bytes, Content, Failure, Received, Sent, Side, Value, Values
from fedinv.recording.writer import Known, Writer
from fedinv.storage import paths

Result = TypeVar("Result")

ROUND_KEYS = ("server-round", "server_round", "current-round", "current_round", "round")
"""Names under which strategies tell clients the round."""
LONGEST_REASON = 2000
"""Characters of an error's text that are kept."""
LOG = logging.getLogger("flwr")
"""Flower's own log, which each engine shows."""


class Recorder:
    """One process' end of a recording. Nothing of it raises once it is open."""

    def __init__(self, folder: str | Path, side: Side) -> None:
        """Write to this folder, relative to the current one; it is opened with the first message.

        Raises RequestError for a path that no folder can have, or where a file is in the way.
        """
        self.folder = paths.folder(folder).resolve()
        self._writer, self._side, self._known = Writer(self.folder), side, Known()
        self._lock, self._open, self._failed = Lock(), False, False

    def open(self) -> None:
        """Begin to write, and say where in Flower's log.

        Raises RequestError for a folder with a recording of another side.
        """
        self._writer.check(self._side)
        self._guarded(self._opened)

    def sent(self, message: Message, round_: int, context: Context | None = None) -> str | None:
        """Write a message to a client, as it is now; returns its name in the recording, None where it was not kept.

        `context` is the client's own, where it is the client that records.
        """
        meta = message.metadata
        key = uuid4().hex

        def write() -> str:
            self._opened()
            line = Sent(
                key=key,
                run=meta.run_id,
                round=round_,
                node=meta.dst_node_id,
                partition=None if context is None else _partition(context),
                kind=meta.message_type,
                content=self._content(message.content),
            )
            self._writer.append(line)
            return key

        return self._guarded(write)

    def received(self, key: str, reply: Message) -> None:
        """Write the reply to the message of this name."""

        def write() -> None:
            if reply.has_error():
                error = reply.error
                self._writer.append(Received(key=key, error=_failure(error.code, error.reason)))
            else:
                self._writer.append(Received(key=key, content=self._content(reply.content)))

        self._guarded(write)

    def raised(self, key: str, code: int, error: BaseException) -> None:
        """Write that a client's app raised in place of a reply to the message of this name."""
        line = Received(key=key, error=_failure(code, f"{type(error).__name__}: {error}"))
        self._guarded(lambda: self._writer.append(line))

    def fault(self, error: Exception) -> None:
        """Say once in Flower's log that something could not be recorded, and why."""
        if not self._failed:
            self._failed = True
            say(error)

    def _opened(self) -> None:
        if self._open:
            return
        new = self._writer.open(self._side)
        self._open = True
        # Ray makes a client anew for each message: it says so once
        if new or self._side == "server":
            LOG.info("fedinv: recording what crosses the wire in %s", self._writer.wire)

    def _content(self, content: RecordDict) -> Content:
        arrays, configs, metrics = {}, {}, {}
        for name, record in content.items():
            if isinstance(record, ArrayRecord):
                arrays[name] = self._known.keep(_items(record), self._writer)
            elif isinstance(record, ConfigRecord):
                configs[name] = values(record)
            elif isinstance(record, MetricRecord):
                metrics[name] = values(record)
        return Content(arrays=arrays, configs=configs, metrics=metrics)

    def _guarded(self, write: Callable[[], Result]) -> Result | None:
        with self._lock:
            try:
                return write()
            except Exception as error:  # a full disk must not end a training
                self.fault(error)
                return None


def say(error: Exception) -> None:
    """Say in Flower's log that something could not be recorded, and why."""
    LOG.warning(
        "fedinv: a message could not be recorded, and the training goes on without it (said once): %s",
        plain(error, 500),
    )


def values(record: Mapping[str, object]) -> Values:
    """A configuration or metrics as plain values; byte strings by length and digest."""
    return {str(key): _value(value) for key, value in record.items()}


def round_of(message: Message) -> int | None:
    """The round that a message names, in a configuration or as its group; None where it names none."""
    return named_round(message.content, message.metadata.group_id)


def named_round(content: RecordDict, group: str) -> int | None:
    """The round that a message's content or group names; None where neither does."""
    for record in content.values():
        if isinstance(record, ConfigRecord):
            for key in ROUND_KEYS:
                named = record.get(key)
                if isinstance(named, int) and not isinstance(named, bool):
                    return named
    return int(group) if group.isdecimal() else None


def is_training(message: Message) -> bool:
    """Whether a message asks a client to train."""
    return message.metadata.message_type.partition(".")[0] == "train"


def chosen(rounds: Iterable[int] | int | None) -> frozenset[int] | None:
    """The rounds to record; None for all. Raises RequestError for anything but whole numbers from 1."""
    if rounds is None:
        return None
    try:
        found = frozenset([rounds] if isinstance(rounds, int) else rounds)
    except TypeError:
        found = frozenset()
    if not found or not all(isinstance(one, int) and one > 0 for one in found):
        raise RequestError(f"rounds: must be whole numbers from 1, as [1, 5], or None for all, not {plain(rounds)}")
    return found


def _items(record: ArrayRecord) -> Mapping[str, Array]:
    return dict(record.items())


def _value(value: object) -> Value:
    if isinstance(value, bytes):
        return _bytes([value])
    if isinstance(value, list | tuple):
        if value and all(isinstance(one, bytes) for one in value):
            return _bytes(list(value))
        return tuple(value)
    return value  # type: ignore[return-value]  # checked when it becomes a line


def _bytes(found: Sequence[bytes]) -> Bytes:
    total = hashlib.sha256()
    for one in found:
        total.update(one)
    return Bytes(items=len(found), bytes=sum(map(len, found)), sha256=total.hexdigest())


def _failure(code: int, reason: str | None) -> Failure:
    return Failure(code=code, reason=(reason or "")[:LONGEST_REASON])


def _partition(context: Context) -> int | str | None:
    given = context.node_config.get("partition-id")
    if isinstance(given, float) and math.isfinite(given):
        return int(given)
    return given if given is None or isinstance(given, int | str) else str(given)
