"""The states that nodes keep between rounds: on disk, so that a stopped run resumes and large states need no memory.

An SQLite file holds one row a node and round in which its state changed; a round's rows are one transaction.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto  # pylint: disable=no-name-in-module

from fedinv.errors import RunError

KEPT_BYTES = 256_000_000
"""Bytes of states that are cached in memory; beyond, the least recently used are read from the file again."""


class NodeStates:
    """The states of all nodes; one that was never written is empty."""

    def __init__(self, path: Path, round_: int, stored: bool = True) -> None:
        """Open the file as it was after round `round_`, 0 for before the first; later states are deleted.

        Without `stored` the file only takes states that memory has no room for, so that nothing can be resumed.
        """
        self._path, self._stored = path, stored
        self._states: OrderedDict[int, tuple[RecordDict, int]] = OrderedDict()
        self._bytes = 0
        self._changed: dict[int, RecordDict] = {}
        self._file: sqlite3.Connection | None = None
        if round_ and path.is_file():
            with self._open() as file:
                file.execute("DELETE FROM states WHERE round > ?", (round_,))
        elif path.is_file():
            path.unlink()

    def read(self, node: int) -> RecordDict:
        """A node's state, empty if never written; the caller may change it. Raises RunError for a damaged file."""
        if node in self._changed:
            return self._changed[node]
        if node in self._states:
            self._states.move_to_end(node)
            return self._states[node][0]
        if self._file is None:
            return RecordDict()
        with self._open() as file:
            found = file.execute(
                "SELECT state FROM states WHERE node = ? ORDER BY round DESC LIMIT 1", (node,)
            ).fetchone()
        if found is None:
            return RecordDict()
        state = recorddict_from_proto(RecordDictProto.FromString(found[0]))
        self._cache(node, state, len(found[0]))
        return state

    def keep(self, node: int, state: RecordDict) -> None:
        """Mark a node's state to be written at the end of the round; one that is and always was empty is ignored."""
        if len(state) or node in self._states or node in self._changed:
            self._changed[node] = state

    def write(self, round_: int) -> None:
        """Store the states kept since the last call as those of a round, and delete all but the one before them.

        A resumed server may need the states of this round or the one before. Raises RunError naming the file.
        """
        if not self._changed:
            return
        if not self._stored:
            for node, state in self._changed.items():
                self._cache(node, state, _size(state))
            self._changed.clear()
            return
        rows = [(node, round_, _bytes(state)) for node, state in self._changed.items()]
        with self._open() as file:
            file.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", rows)
            file.executemany(
                "DELETE FROM states WHERE node = ? AND round < "
                "(SELECT MAX(round) FROM states WHERE node = ? AND round < ?)",
                [(node, node, round_) for node, _, _ in rows],
            )
        for node, _, content in rows:
            self._cache(node, self._changed[node], len(content))
        self._changed.clear()

    def close(self) -> None:
        """Close the file; states can be read again only by opening it anew."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _cache(self, node: int, state: RecordDict, size: int) -> None:
        _, before = self._states.pop(node, (None, 0))
        self._states[node] = state, size
        self._bytes += size - before
        while self._bytes > KEPT_BYTES:
            oldest, (gone, bytes_) = self._states.popitem(last=False)
            self._bytes -= bytes_
            if not self._stored:
                with self._open() as file:
                    file.execute("INSERT OR REPLACE INTO states VALUES (?, 0, ?)", (oldest, _bytes(gone)))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = sqlite3.connect(self._path)
                self._file.execute("PRAGMA synchronous = OFF")  # safe against a killed process, not a power cut
                self._file.execute(
                    "CREATE TABLE IF NOT EXISTS states "
                    "(node INTEGER, round INTEGER, state BLOB, PRIMARY KEY (node, round)) WITHOUT ROWID"
                )
            with self._file:
                yield self._file
        except (sqlite3.Error, OSError) as error:
            with suppress(sqlite3.Error):
                self.close()
            raise RunError(f"{self._path}: cannot be written or read ({error})") from error


def _bytes(state: RecordDict) -> bytes:
    """The state as the file holds it."""
    content: bytes = recorddict_to_proto(state).SerializeToString()
    return content


def _size(state: RecordDict) -> int:
    """Bytes of the state's arrays, which are nearly all that a large state takes."""
    return sum(len(array.data) for record in state.array_records.values() for array in record.values())
