"""A deployment on this machine to rehearse on: a SuperLink and SuperNodes, started by `fedinv up`, ended by `down`.

What was started is noted down with the time at which each process began, so that no stranger's process that got the
same number later is ever touched.
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
"""Of the SuperLink in Flower's configuration."""
START_SECONDS = 120.0
"""For each process that is to come up, which on few or busy cores they do one after another; none is waited for that
ended."""
END_SECONDS = 10.0
"""For processes to be gone, once when they were asked to end and once more when they were killed."""

Tell = Callable[[str], None]


class Process(BaseModel):
    """A process that was started."""

    model_config = ConfigDict(frozen=True)

    what: str
    pid: int
    began: int
    """Clock ticks after the machine's start, as the kernel tells it."""

    @property
    def alive(self) -> bool:
        """Whether it still runs, it and no other of the same number."""
        return _began(self.pid) == self.began


class Deployment(BaseModel):
    """What `fedinv up` started."""

    model_config = ConfigDict(frozen=True)

    address: str
    tls: bool
    superlink: Process
    nodes: tuple[Process, ...] = ()

    @property
    def processes(self) -> tuple[Process, ...]:
        """All, those that depend on others first."""
        return (*self.nodes, self.superlink)


def up(at: Path, clients: int, tls: bool, tell: Tell) -> Deployment:
    """Start a SuperLink and so many SuperNodes on loopback.

    Raises RequestError where one is up, RunError when one does not come up; then all are ended again.
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
    """Start the SuperNodes that are missing to so many, and wait until all of them are known to the SuperLink."""
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
    """End what was started here and still runs, children first; returns what was ended. Harmless where nothing is."""
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
    """What is noted down here; None where nothing is."""
    path = at / "deployment.json"
    return Deployment.model_validate(files.read_json(path)) if path.is_file() else None


def flower(at: Path, *arguments: str) -> dict[str, Any]:
    """Run Flower's command against the deployment, return its answer. Raises RunError with what it complains of."""
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
    """Of Flower's processes: a home of their own, nothing fetched, one thread each, the two roles within reach.

    They start one another by name, so this environment's commands come first: nobody need have activated it.
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
    """Tell Flower's commands of a SuperLink; without its authority's certificate nothing is encrypted."""
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
    threading.Thread(target=started.wait, daemon=True).start()  # or it would stay a zombie while this process runs
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
    """So many different ports of loopback that nobody uses now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def listens(port: int) -> bool:
    """Whether somebody takes connections on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _began(pid: int) -> int | None:
    """When a process began; None for one that is gone or a zombie."""
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
