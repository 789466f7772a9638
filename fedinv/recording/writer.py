"""Writes a recording: arrays by their content, and a line for each message; several processes may share a folder."""

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Array
from pydantic import ValidationError

from fedinv.errors import RequestError, RunError
from fedinv.recording import content
from fedinv.recording.lines import LINE, Line, Opened, Side
from fedinv.storage import flock
from fedinv.version import __version__

WIRE = "wire"
"""Name of the folder of a recording's files, in the folder that the user names."""
MESSAGES = "messages.jsonl"
"""Name of the file of lines."""


@dataclass(frozen=True)
class Writer:
    """Appends to the recording in one folder."""

    folder: Path
    """The folder that the user named, absolute."""

    @property
    def wire(self) -> Path:
        """The folder of the recording's files."""
        return self.folder / WIRE

    def open(self, side: Side) -> bool:
        """Make the folder and say in a first line what follows, where it has none; returns whether it had none.

        Raises RequestError as `check`, RunError where it cannot be written.
        """
        try:
            self.wire.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.wire}: cannot be written ({error.strerror})") from error
        if self.check(side):
            return False
        self.append(Opened(side=side, fedinv=__version__, process=os.getpid()))
        return True

    def check(self, side: Side) -> bool:
        """Whether a recording of this side is there to be gone on with.

        Raises RequestError for one of another side, in which every message would stand twice.
        """
        try:
            with (self.wire / MESSAGES).open("rb") as file:
                first = LINE.validate_json(file.readline())
        except (OSError, ValidationError):
            return False
        if isinstance(first, Opened) and first.side != side:
            where = {"server": "a server's", "client": "a client's", "files": "an imported"}[first.side]
            raise RequestError(f"{self.folder}: holds {where} recording: name another folder for this one")
        return isinstance(first, Opened)

    def append(self, line: Line) -> None:
        """Write one line, whole or not at all. Raises RunError where it cannot be written.

        What a process that died left of a line is ended first, so that nothing is glued to it.
        """
        _append(self.wire / MESSAGES, line.model_dump_json(exclude_none=True).encode() + b"\n")

    def keep(self, parts: Sequence[content.Part]) -> str:
        """Write arrays where they are not there yet; returns their digest. Raises RunError."""
        key = content.digest(parts)
        content.write(self.wire, key, parts)
        return key


class Known:
    """The digest of the arrays seen last, as a strategy sends the same ones to all clients of a round."""

    def __init__(self) -> None:
        self._arrays: tuple[tuple[object, ...], ...] = ()
        self._key = ""

    def keep(self, record: Mapping[str, Array], writer: Writer) -> str:
        """Write a Flower record where it is not there yet; returns its digest. Raises RunError.

        Bytes cannot be changed: a record of the very same ones, by the same names, is the one seen last.
        """
        arrays = tuple((name, array.dtype, array.shape, array.stype, array.data) for name, array in record.items())
        if not self._arrays or not _same(arrays, self._arrays):
            key = writer.keep(content.of_record(record))
            self._arrays, self._key = arrays, key
        return self._key


def _same(arrays: Sequence[Sequence[object]], others: Sequence[Sequence[object]]) -> bool:
    """Whether two lists of arrays hold the same objects of bytes under the same names."""
    return len(arrays) == len(others) and all(
        one[-1] is other[-1] and one[:-1] == other[:-1] for one, other in zip(arrays, others, strict=True)
    )


def _append(path: Path, text: bytes) -> None:
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error
    with file:
        with suppress(OSError):  # some network disks have no locks
            flock.lock(file)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read(1) not in (b"", b"\n"):
            text = b"\n" + text
        try:
            if (file.write(text) or 0) < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with suppress(OSError):
                file.truncate(size)
            raise RunError(f"{path}: cannot be written ({error.strerror})") from error
