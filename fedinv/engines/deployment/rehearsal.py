"""A deployment on this machine to rehearse on: a SuperLink and SuperNodes, started by `fedinv up`, ended by `down`.

deployment.json records each process with its start time, so that another process that got the same id later is never
signaled.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict

from fedinv import roles
from fedinv.engines.deployment import certificates
from fedinv.errors import RequestError, RunError
from fedinv.storage import files

NAME = "fedinv"
"""Name of the SuperLink's entry in Flower's configuration."""
START_SECONDS = 120.0
"""Seconds that each process may take to come up; on few or busy cores they do so one after another. One that ended is
not waited for."""
END_SECONDS = 10.0
"""Seconds that processes may take to end after SIGTERM, and once more after SIGKILL."""

Tell = Callable[[str], None]
"""Function that is called with a line on what is being done."""


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
        return _began(self.pid) == self.began


class Deployment(BaseModel):
    """A SuperLink and the SuperNodes that `fedinv up` started."""

    model_config = ConfigDict(frozen=True)

    address: str
    """Address of the SuperLink, host:port."""
    tls: bool
    """Whether connections are encrypted and SuperNodes authenticated by their keys."""
    superlink: Process
    nodes: tuple[Process, ...] = ()

    @property
    def processes(self) -> tuple[Process, ...]:
        """All processes, SuperNodes before the SuperLink that they depend on."""
        return (*self.nodes, self.superlink)


def up(at: Path, clients: int, tls: bool, tell: Tell) -> Deployment:
    """Start a SuperLink and `clients` SuperNodes on loopback, and record them in the folder `at`.

    Raises RequestError where a deployment is up already, RunError when a process does not come up, after which all are
    ended again.
    """
    before = read(at)
    if before is not None and any(process.alive for process in before.processes):
        raise RequestError(f"{at}: a deployment is up already, on {before.address}; end it with: fedinv down")
    for old in ("logs", "keys", "flower"):
        shutil.rmtree(at / old, ignore_errors=True)
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    secure = ["--insecure"]
    if tls:
        certificates.write_server(at / "keys")
        files_of = {"ca-certfile": "ca.crt", "certfile": "server.pem", "keyfile": "server.key"}
        secure = [part for key, name in files_of.items() for part in (f"--ssl-{key}", str(_keys(at) / name))]
        secure.append("--enable-supernode-auth")
    files.write(at / ".gitignore", "*\n")
    configure(at, address, at / "keys" / "ca.crt" if tls else None)
    tell(f"starting a SuperLink on {address}")
    command = ["flower-superlink", "--host", "127.0.0.1", "--port", str(port), *secure]
    superlink = _start(at, "SuperLink", [*command, "--disable-runtime-dependency-installation"])
    found = _note(at, Deployment(address=address, tls=tls, superlink=superlink))
    try:
        _wait(lambda: listens(port), found.processes, at, "the SuperLink")
        return more(at, found, clients, tell)
    except BaseException:
        down(at)
        raise


def more(at: Path, there: Deployment, clients: int, tell: Tell) -> Deployment:
    """Start SuperNodes until there are `clients` of them, and wait until the SuperLink reports all as online."""
    tell(f"starting {clients - len(there.nodes)} SuperNodes")
    missing = range(len(there.nodes), clients)
    if there.tls:
        keys = {number: certificates.write_node(_keys(at), f"node-{number}") for number in missing}
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda key: flower(at, "supernode", "register", f"{key}.pub", NAME), keys.values()))
    for number, port in zip(missing, free_ports(len(missing)), strict=True):
        secure = ["--insecure"]
        if there.tls:
            secure = ["--root-certificates", str(_keys(at) / "ca.crt")]
            secure += ["--auth-supernode-private-key", str(keys[number])]
        command = ["flower-supernode", *secure, "--superlink", there.address, "--port", str(port)]
        config = f"partition-id={number} num-partitions={clients}"
        node = _start(at, f"SuperNode {number}", [*command, "--host", "127.0.0.1", "--node-config", config])
        there = _note(at, there.model_copy(update={"nodes": (*there.nodes, node)}))
    _wait(lambda: _online(at) >= clients, there.processes, at, "all SuperNodes", every=1.0)
    return there


def down(at: Path) -> list[str]:
    """End every recorded process that runs, and its descendants; returns the names of those ended, perhaps none."""
    found = read(at)
    running = [process for process in (found.processes if found is not None else ()) if process.alive]
    family = [pid for process in running for pid in (process.pid, *_descendants(process.pid))]
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(family, number)
        deadline = time.monotonic() + END_SECONDS
        while any(_began(pid) is not None for pid in family) and time.monotonic() < deadline:
            time.sleep(0.05)
    (at / "deployment.json").unlink(missing_ok=True)
    return [process.what for process in running]


def read(at: Path) -> Deployment | None:
    """The deployment that is recorded in a folder; None where none is. Raises RunError for a damaged record."""
    path = at / "deployment.json"
    return files.read_model(Deployment, path) if path.is_file() else None


def flower(at: Path, *arguments: str) -> dict[str, Any]:
    """Run a command of `flwr` against the deployment; returns its JSON answer. Raises RunError with Flower's error."""
    command = [str(Path(sys.executable).parent / "flwr"), *arguments, "--format", "json"]
    done = subprocess.run(command, cwd=at, env=environment(at), capture_output=True, text=True)  # noqa: S603
    try:
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        answer = {"success": False, "error-message": (done.stderr or done.stdout).strip()}
    if not answer.get("success", False):
        raise RunError(f"flwr {' '.join(arguments[:2])}: {answer.get('error-message') or answer}")
    return answer


def environment(at: Path) -> dict[str, str]:
    """Environment of Flower's processes: a FLWR_HOME of their own, no downloads, one thread, both roles importable.

    They start one another by name, so this Python's commands come first on the PATH: nobody need have activated it.
    """
    home = roles.folder("clients").parent
    paths = [] if home.name == "_roles" else [str(home)]
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "FLWR_HOME": str((at / "flower").resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def configure(at: Path, address: str, authority: Path | None) -> None:
    """Write Flower's configuration with a SuperLink; without its authority's certificate nothing is encrypted."""
    link: dict[str, Any] = {"address": address}
    link |= {"insecure": True} if authority is None else {"root-certificates": str(authority.resolve())}
    files.write(at / "flower" / "config.toml", tomli_w.dumps({"superlink": {"default": NAME, NAME: link}}))


def _start(at: Path, what: str, command: Sequence[str]) -> Process:
    """Start one of Flower's commands in a session of its own, its output kept in logs/."""
    empty = at / "flower" / "empty"  # Flower's processes import what lies where they are started
    empty.mkdir(parents=True, exist_ok=True)
    (at / "logs").mkdir(exist_ok=True)
    path = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    with _log(at, what).open("wb") as log:
        started = subprocess.Popen(  # noqa: S603
            path,
            cwd=empty,
            env=environment(at),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    threading.Thread(target=started.wait, daemon=True).start()  # else it stays a zombie while this process runs
    began = _began(started.pid)
    if began is None:
        raise RunError(f"the {what} ended at once: see {at / 'logs'}")
    return Process(what=what, pid=started.pid, began=began)


def _log(at: Path, what: str) -> Path:
    return at / "logs" / f"{what.lower().replace(' ', '-')}.log"


def _last_words(at: Path, process: Process) -> str:
    """The last exception in a process's log, or else the last error, or else the last line."""
    lines = [line.strip() for line in _log(at, process.what).read_text(errors="replace").splitlines() if line.strip()]
    for sort in (r"[\w.]*(Error|Exception): ", r".*\bERROR\b", ""):
        found = [line for line in lines if re.match(sort, line)]
        if found:
            return found[-1]
    return "nothing"


def _note(at: Path, deployment: Deployment) -> Deployment:
    files.write_json(at / "deployment.json", deployment.model_dump())
    return deployment


def _wait(ready: Callable[[], bool], processes: Sequence[Process], at: Path, what: str, every: float = 0.1) -> None:
    seconds = START_SECONDS * len(processes)
    deadline = time.monotonic() + seconds
    while not ready():
        for process in processes:
            if not process.alive:
                raise RunError(
                    f"{process.what} ended by itself, saying: {_last_words(at, process)} (see {at / 'logs'})"
                )
        if time.monotonic() > deadline:
            raise RunError(f"{what} did not come up within {seconds:.0f} s: see {at / 'logs'}")
        time.sleep(every)


def _online(at: Path) -> int:
    return sum(node.get("status") == "online" for node in flower(at, "supernode", "list", NAME).get("nodes", ()))


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _keys(at: Path) -> Path:
    return (at / "keys").resolve()


def free_ports(count: int) -> list[int]:
    """`count` different ports of loopback that are free at the moment."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def listens(port: int) -> bool:
    """Whether a process accepts connections on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _began(pid: int) -> int | None:
    """Start time of a process in the kernel's clock ticks after boot; None for one that has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            parents.setdefault(int(path.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found
