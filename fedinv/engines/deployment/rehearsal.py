"""A deployment on this machine to rehearse on: a SuperLink and SuperNodes, started by `fedinv up`, ended by `down`.

deployment.json records the processes that were started, beside which every process of the deployment carries a mark.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict

from fedinv import roles
from fedinv.engines.deployment import certificates, processes
from fedinv.engines.deployment.processes import Process
from fedinv.errors import RequestError, RunError, plain
from fedinv.storage import files

NAME = "fedinv"
"""Name of the SuperLink's entry in Flower's configuration."""
SUPERLINK = "SuperLink"
"""Name of its process."""
START_SECONDS = 120.0
"""Seconds that each process may take to come up; on few or busy cores they do so one after another. One that ended is
not waited for."""
ANSWER_SECONDS = 120.0
"""Seconds that a command of `flwr` may take; a SuperLink that is stopped or overloaded lets it wait for ever."""
TRIES = 3
"""How often a process is started anew on another port where a stranger took its port before it could."""

Tell = Callable[[str], None]
"""Function that is called with a line on what is being done."""


class _PortTakenError(RunError):
    """A process ended as another process had taken its port."""

    def __init__(self, process: Process, why: str) -> None:
        super().__init__(why)
        self.process = process


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

    Raises RequestError where a deployment is up already or the system has no /proc, RunError when a process does not
    come up, after which all are ended again.
    """
    processes.require_proc()
    before = read(at)
    if before is not None and any(process.alive for process in before.processes):
        raise RequestError(f"{at}: a deployment is up already, on {before.address}; end it with: fedinv down")
    for old in ("logs", "keys", "flower"):
        shutil.rmtree(at / old, ignore_errors=True)
    (port,) = processes.free_ports(1)
    if tls:
        certificates.write_server(at / "keys")
    files.write(at / ".gitignore", "*\n")
    for left in reversed(range(TRIES)):
        address = f"127.0.0.1:{port}"
        configure(at, address, at / "keys" / "ca.crt" if tls else None)
        tell(f"starting a SuperLink on {address}")
        try:
            found = _note(at, Deployment(address=address, tls=tls, superlink=_superlink(at, port, tls)))
            _wait(lambda link=found.superlink, port=port: processes.serves(link.pid, port), found, at, "the SuperLink")  # type: ignore[misc]
            return more(at, found, clients, tell)
        except _PortTakenError as taken:
            down(at)
            if not left or taken.process != found.superlink:
                raise
            (port,) = processes.free_ports(1)
        except BaseException:
            down(at)
            raise
    raise AssertionError("the last try returns or raises")


def more(at: Path, there: Deployment, clients: int, tell: Tell) -> Deployment:
    """Start SuperNodes until there are `clients` of them, and wait until the SuperLink reports all as online.

    One whose port was taken before it started is started anew on another. Raises RunError when one does not come up.
    """
    tell(f"starting {clients - len(there.nodes)} SuperNodes")
    missing = range(len(there.nodes), clients)
    if there.tls:
        keys = [certificates.write_node(_keys(at), f"node-{number}") for number in missing]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda key: flower(at, "supernode", "register", f"{key}.pub", NAME), keys))
    ports = dict(zip(missing, processes.free_ports(len(missing)), strict=True))
    for number, port in ports.items():
        node = _supernode(at, there, number, clients, port)
        there = _note(at, there.model_copy(update={"nodes": (*there.nodes, node)}))
    for left in reversed(range(TRIES)):
        try:
            _wait(partial(_are_up, at, there, ports, clients), there, at, "all SuperNodes")
            break
        except _PortTakenError as taken:
            if not left or taken.process not in there.nodes:
                raise
            at_fault = there.nodes.index(taken.process)
            (ports[at_fault],) = processes.free_ports(1)
            node = _supernode(at, there, at_fault, clients, ports[at_fault])
            nodes = (*there.nodes[:at_fault], node, *there.nodes[at_fault + 1 :])
            there = _note(at, there.model_copy(update={"nodes": nodes}))
    return there


def _superlink(at: Path, port: int, tls: bool) -> Process:
    """Start the SuperLink on a port of loopback."""
    secure = ["--insecure"]
    if tls:
        files_of = {"ca-certfile": "ca.crt", "certfile": "server.pem", "keyfile": "server.key"}
        secure = [part for key, name in files_of.items() for part in (f"--ssl-{key}", str(_keys(at) / name))]
        secure.append("--enable-supernode-auth")
    command = ["flower-superlink", "--host", "127.0.0.1", "--port", str(port), *secure]
    return _start(at, SUPERLINK, [*command, "--disable-runtime-dependency-installation"])


def _supernode(at: Path, there: Deployment, number: int, clients: int, port: int) -> Process:
    """Start the SuperNode of a client, of so many, whose apps reach it on a port of loopback."""
    secure = ["--insecure"]
    if there.tls:
        secure = ["--root-certificates", str(_keys(at) / "ca.crt")]
        secure += ["--auth-supernode-private-key", str(_keys(at) / f"node-{number}")]
    command = ["flower-supernode", *secure, "--superlink", there.address, "--port", str(port)]
    config = f"partition-id={number} num-partitions={clients}"
    return _start(at, f"SuperNode {number}", [*command, "--host", "127.0.0.1", "--node-config", config])


def down(at: Path) -> list[str]:
    """End every process of the deployment, also those whose parents ended; returns the names of the recorded ones.

    No names where none of the recorded processes was running.
    """
    found = read(at)
    running = [process for process in (found.processes if found is not None else ()) if process.alive]
    family = [pid for process in running for pid in (process.pid, *processes.descendants(process.pid))]
    processes.end([*family, *processes.marked(at)])
    (at / "deployment.json").unlink(missing_ok=True)
    return [process.what for process in running]


def read(at: Path) -> Deployment | None:
    """The deployment that is recorded in a folder; None where none is. Raises RunError for a damaged record."""
    path = at / "deployment.json"
    return files.read_model(Deployment, path) if path.is_file() else None


def flower(at: Path, *arguments: str) -> dict[str, Any]:
    """Run a command of `flwr` against the deployment; returns its JSON answer.

    Raises RunError with Flower's error, or where there is no answer within ANSWER_SECONDS.
    """
    command = [str(Path(sys.executable).parent / "flwr"), *arguments, "--format", "json"]
    asked = f"flwr {' '.join(arguments[:2])}"
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=at, env=environment(at), capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"{asked}: no answer from the SuperLink within {ANSWER_SECONDS:.0f} s") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        answer = {"success": False, "error-message": (done.stderr or done.stdout).strip()}
    if not answer.get("success", False):
        raise RunError(f"{asked}: {plain(answer.get('error-message') or answer, 500)}")
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
            env={**environment(at), processes.MARK: str(at.resolve())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    threading.Thread(target=started.wait, daemon=True).start()  # else it stays a zombie while this process runs
    # one that ended at once is no process that runs, and whoever waits for it says why
    return Process(what=what, pid=started.pid, began=processes.began(started.pid) or 0)


def _log(at: Path, what: str) -> Path:
    return at / "logs" / f"{what.lower().replace(' ', '-')}.log"


def last_words(at: Path, process: Process) -> str:
    """The last exception in a process's log, or else the last error, or else the last line; cut to one short line."""
    text = re.sub(r"\x1b\[[\d;]*m", "", _log(at, process.what).read_text(errors="replace"))  # its colors
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for sort in (r"[\w.]*(Error|Exception): ", r".*\bERROR\b", ""):
        found = [line for line in lines if re.match(sort, line)]
        if found:
            return plain(found[-1], 300)
    return "nothing"


def _lacked_port(at: Path, process: Process) -> bool:
    return "address already in use" in _log(at, process.what).read_text(errors="replace").lower()


def _note(at: Path, deployment: Deployment) -> Deployment:
    files.write_json(at / "deployment.json", deployment.model_dump())
    return deployment


def _wait(ready: Callable[[], bool], there: Deployment, at: Path, what: str) -> None:
    """Wait until the processes of a deployment are ready, `what` naming them.

    Raises _PortTakenError or another RunError when one of them ends, RunError when they take too long.
    """
    seconds = START_SECONDS * len(there.processes)
    deadline = time.monotonic() + seconds
    while True:
        up = ready()
        for process in there.processes:
            if not process.alive:
                told = last_words(at, process)
                why = f"{process.what} ended by itself, saying: {told} (see {at / 'logs'})"
                raise _PortTakenError(process, why) if _lacked_port(at, process) else RunError(why)
        if up:
            return
        if time.monotonic() > deadline:
            raise RunError(f"{what} did not come up within {seconds:.0f} s: see {at / 'logs'}")
        time.sleep(0.1)


def _are_up(at: Path, there: Deployment, ports: Mapping[int, int], clients: int) -> bool:
    """Whether so many SuperNodes are online; the SuperLink is asked, for a second, once those on `ports` listen."""
    listen = all(processes.serves(there.nodes[number].pid, port) for number, port in ports.items())
    return listen and _online(at) >= clients


def _online(at: Path) -> int:
    return sum(node.get("status") == "online" for node in flower(at, "supernode", "list", NAME).get("nodes", ()))


def _keys(at: Path) -> Path:
    return (at / "keys").resolve()
