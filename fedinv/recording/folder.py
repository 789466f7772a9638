"""Reads a recording: what was sent to each client and what came back, as frozen values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError
from torch import Tensor

from fedinv.errors import RequestError, RunError, plain
from fedinv.recording import content
from fedinv.recording.lines import LINE, Content, Failure, Opened, Received, Sent, Side, Value, reported_records
from fedinv.recording.writer import MESSAGES, WIRE
from fedinv.storage import paths


@dataclass(frozen=True)
class Exchange:
    """A message to one client and its reply. Arrays are read from the disk whenever they are asked for."""

    wire: Path
    """Folder of the files."""
    run: int
    """Number of Flower's run."""
    round: int
    """Round, from 1; 0 for what Flower asks before the first one."""
    node: int
    """Id of the client's node."""
    partition: int | str | None
    """The client's partition-id; None where the server recorded, which is never given it."""
    kind: str
    """Flower's message type: "train", "evaluate", "query", or one of them with an action, as "train.probe"."""
    asked: Content
    """Records of the message, arrays by their digest."""
    answered: Content | None
    """Records of the reply; None for an error, and for a client that did not reply."""
    failure: Failure | None
    """The error that came back in place of a reply."""

    @property
    def is_training(self) -> bool:
        """Whether the client was asked to train."""
        return self.kind.partition(".")[0] == "train"

    @property
    def sent(self) -> Mapping[str, Tensor]:
        """Arrays that the server sent, by name in the order sent, integers and buffers among them.

        Names begin with their record's, as "arrays/fc.weight", where the message has several records of arrays. Raises
        RunError naming a file that is missing or damaged.
        """
        return _arrays(self.wire, self.asked)

    @property
    def received(self) -> Mapping[str, Tensor]:
        """Arrays that the client sent back, named as in `sent`; none where it sent none. Raises RunError."""
        return _arrays(self.wire, self.answered or Content())

    @property
    def config(self) -> Mapping[str, Value]:
        """Configuration that the server sent, all of its records as one."""
        return MappingProxyType({key: value for record in self.asked.configs.values() for key, value in record.items()})

    @property
    def metrics(self) -> Mapping[str, Value]:
        """Metrics that the client sent back, all records as one; Flower's older apps send them as a configuration."""
        found = self.answered or Content()
        records = (*found.configs.values(), *found.metrics.values())
        return MappingProxyType({key: value for record in records for key, value in record.items()})

    @property
    def claimed_records(self) -> int | None:
        """Number of examples that the client reports; None where it reports none.

        Not to be trusted: nobody checks it, and some apps count batches.
        """
        return reported_records([self.metrics])

    @property
    def error(self) -> str | None:
        """Reason in one line why no usable reply came; None where one did."""
        if self.failure is not None:
            return plain(self.failure.reason, 300) or f"error {self.failure.code}"
        return "did not reply" if self.answered is None else None


@dataclass(frozen=True)
class Recording:
    """All that one folder holds."""

    folder: Path
    """The folder that was read."""
    side: Side
    """Whether the server recorded, a client, or nobody, as the arrays came from files."""
    exchanges: tuple[Exchange, ...]
    """Messages with their replies, in the order sent."""
    skipped: tuple[str, ...]
    """One line for each thing that cannot be read and is left out: a line cut short, a file that is damaged."""

    @property
    def updates(self) -> tuple[Exchange, ...]:
        """The exchanges in which a client was sent arrays, trained, and sent arrays back.

        None of a secure aggregation's: there the arrays are masked, and travel as bytes in a configuration. The means
        that the server sees instead are those of `secure_sums`.
        """
        return tuple(
            one for one in self.exchanges if one.is_training and _has_arrays(one.asked) and _has_arrays(one.answered)
        )


def read(folder: str | Path) -> Recording:
    """Read a recording and check every file of it against its digest.

    What was cut short or damaged is left out and named in `skipped`; the rest is there. Raises RequestError for a
    folder that holds no recording, or one of which nothing can be read.
    """
    root = paths.given(folder)
    lines, skipped = _lines(root)
    sides = [line.side for _, line in lines if isinstance(line, Opened)]
    if not sides:
        raise RequestError(f"{root}: {WIRE}/{MESSAGES} is no recording of fedinv's, or of another version")
    damaged = _damaged(root / WIRE, lines, skipped)
    replies = _replies(lines, skipped)
    exchanges = tuple(
        _exchange(root / WIRE, line, replies.get(line.key))
        for number, line in lines
        if isinstance(line, Sent)
        and _whole(number, line.content, damaged, skipped)
        and _whole(number, replies[line.key].content if line.key in replies else None, damaged, skipped)
    )
    if not exchanges and skipped:
        raise RequestError(f"{root}: nothing of the recording can be read: {skipped[0]}")
    return Recording(root, sides[0], exchanges, tuple(skipped))


def holds(folder: Path) -> bool:
    """Whether a folder has the file of a recording."""
    return (folder / WIRE / MESSAGES).is_file()


def trainings(folder: Path, run: int, node: int) -> int:
    """Number of trainings that a recording holds of one node in one run; 0 where there is none yet."""
    if not holds(folder):
        return 0
    sent = (line for _, line in _lines(folder)[0] if isinstance(line, Sent))
    return sum(s.run == run and s.node == node and s.kind.partition(".")[0] == "train" for s in sent)


Lines = list[tuple[int, Opened | Sent | Received]]


def _lines(root: Path) -> tuple[Lines, list[str]]:
    """The lines that can be read with their numbers, and what is said of the others."""
    path = root / WIRE / MESSAGES
    if not path.is_file():
        raise RequestError(f"{root}: holds no recording; make one with fedinv record, fedinv import or fedinv.tap")
    lines: Lines = []
    skipped: list[str] = []
    try:
        texts = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from None
    for number, text in enumerate(texts, 1):
        if not text:
            continue
        try:
            lines.append((number, LINE.validate_json(text)))
        except (ValidationError, RecursionError):
            how = "is cut short" if number == len(texts) else "cannot be read"
            skipped.append(f"{path}: line {number} {how} and is left out")
    return lines, skipped


def _damaged(wire: Path, lines: Lines, skipped: list[str]) -> frozenset[str]:
    """Digests of files that are missing or damaged."""
    found = []
    for key in dict.fromkeys(key for _, line in lines for key in _keys(line)):
        try:
            content.read(wire, key)
        except RunError as error:
            found.append(key)
            skipped.append(str(error).removesuffix(": run again in another folder"))
    return frozenset(found)


def _keys(line: Opened | Sent | Received) -> Iterator[str]:
    if not isinstance(line, Opened) and line.content is not None:
        yield from line.content.arrays.values()


def _replies(lines: Lines, skipped: list[str]) -> dict[str, Received]:
    """Replies by the message that they answer; a reply to a message that is not there is left out."""
    sent = {line.key for _, line in lines if isinstance(line, Sent)}
    for number, line in lines:
        if isinstance(line, Received) and line.key not in sent:
            skipped.append(f"line {number} is the reply to a message that is not there, and is left out")
    return {line.key: line for _, line in lines if isinstance(line, Received) and line.key in sent}


def _whole(number: int, found: Content | None, damaged: frozenset[str], skipped: list[str]) -> bool:
    lost = damaged.intersection(found.arrays.values()) if found is not None else ()
    if lost:
        skipped.append(f"the message of line {number} is left out with its reply, as arrays of it are lost")
    return not lost


def _exchange(wire: Path, sent: Sent, reply: Received | None) -> Exchange:
    return Exchange(
        wire=wire,
        run=sent.run,
        round=sent.round,
        node=sent.node,
        partition=sent.partition,
        kind=sent.kind,
        asked=sent.content,
        answered=None if reply is None else reply.content,
        failure=None if reply is None else reply.error,
    )


def _has_arrays(found: Content | None) -> bool:
    return found is not None and any(key != content.EMPTY for key in found.arrays.values())


def _arrays(wire: Path, found: Content) -> Mapping[str, Tensor]:
    several = len(found.arrays) > 1
    return MappingProxyType(
        {
            content.full_name(record, name, several): tensor
            for record, key in found.arrays.items()
            for name, tensor in content.read(wire, key).items()
        }
    )
