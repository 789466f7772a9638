"""Processes of a deployment: started with a mark in their environment, watched by start time, ended with descendants.

A process is known by its start time beside its id, so that another that got the same id later is never signaled.
"""

import os
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fedinv.errors import RequestError

MARK = "FEDINV_DEPLOYMENT"
"""Environment variable that every process of a deployment inherits: the absolute path of the deployment's folder."""
PROC = Path("/proc")
"""Folder in which Linux shows processes; missing on other systems."""
END_SECONDS = 10.0
"""Seconds that processes may take to end after SIGTERM, and once more after SIGKILL."""


class Process(BaseModel):
    """A process that was started."""

    model_config = ConfigDict(frozen=True)

    what: str
    """Name of the process for people, such as "SuperNode 3"."""
    pid: int
    """Id of the process in the operating system."""
    began: int
    """Start time of the process in the kernel's clock ticks after boot, which tells it from later ones of its id."""

    @property
    def alive(self) -> bool:
        """Whether this very process is running, not another of the same id."""
        return began(self.pid) == self.began

    @property
    def has_helper(self) -> bool:
        """Whether the SuperExec that this process started, which starts the apps for it, is running."""
        return any(b"flower-superexec" in _read(pid, "cmdline") for pid in descendants(self.pid))


def require_proc() -> None:
    """Raise RequestError on a system without /proc, where processes could be neither watched nor ended."""
    if not (PROC / "self" / "stat").is_file():
        raise RequestError(
            "fedinv up: needs /proc, which this system does not have (Linux does): start SuperLink and SuperNodes by "
            "Flower's own commands, and name them: fedinv run SCENARIO --engine deployment --superlink HOST:PORT"
        )


def began(pid: int) -> int | None:
    """Start time of a process in the kernel's clock ticks after boot; None for one that has ended or is a zombie."""
    fields = _stat(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def descendants(pid: int) -> list[int]:
    """The ids of the processes that a process started, and of those that they started in turn; no zombies."""
    parents: dict[int, list[int]] = {}
    for other in _all():
        fields = _stat(other)
        if fields and fields[0] not in "ZX":
            parents.setdefault(int(fields[1]), []).append(other)
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def marked(at: Path) -> list[int]:
    """The ids of the processes that carry the mark of the deployment in a folder, though their parents ended."""
    mark = f"{MARK}={at.resolve()}".encode()
    return [pid for pid in _all() if mark in _read(pid, "environ").split(b"\0")]


def end(pids: Iterable[int]) -> None:
    """End processes: politely at first, and by force those that take too long."""
    there = {pid: since for pid in pids if pid != os.getpid() and (since := began(pid)) is not None}
    for number in (signal.SIGTERM, signal.SIGKILL):
        there = {pid: since for pid, since in there.items() if began(pid) == since}
        for pid in there:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + END_SECONDS
        while any(began(pid) == since for pid, since in there.items()) and time.monotonic() < deadline:
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """`count` different ports of loopback that are free at the moment: another process may take them at any time."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def listens(port: int) -> bool:
    """Whether a process accepts connections on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serves(pid: int, port: int) -> bool:
    """Whether a process, or one that it started, is the one that listens on this port, not a stranger."""
    tables = [path.read_text().splitlines()[1:] for path in (PROC / "net").glob("tcp*")]
    sockets = {
        f"socket:[{fields[9]}]"
        for fields in (line.split() for lines in tables for line in lines)
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
    }
    for path in (path for one in (pid, *descendants(pid)) for path in (PROC / str(one) / "fd").glob("*")):
        with suppress(OSError):
            if str(path.readlink()) in sockets:
                return True
    return False


def _all() -> list[int]:
    return [int(path.name) for path in PROC.glob("[0-9]*")]


def _stat(pid: int) -> list[str]:
    """State, parent and all further fields of /proc/PID/stat; empty for a process that is not there."""
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(pid: int, name: str) -> bytes:
    """A file of /proc/PID; empty where the process is not there or another user's."""
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
