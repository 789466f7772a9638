"""Runs the two apps on a SuperLink and its SuperNodes, those of `fedinv up` or those already running elsewhere."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from fedinv import roles
from fedinv.engines import DEFAULT, Options, start_over
from fedinv.engines.deployment import processes, rehearsal
from fedinv.engines.deployment.processes import Process
from fedinv.errors import EndedError, RequestError, RunError, plain
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files, lock
from fedinv.storage.checkpoints import read_progress
from fedinv.storage.run_folder import RunFolder
from fedinv.version import __version__

POLL_SECONDS = 0.5
"""Seconds between two looks at the run's folder for a finished round."""
ASK_SECONDS = 10.0
"""Seconds between two queries of the run's status, each of which takes the SuperLink a second."""
BEGIN_SECONDS = 600.0
"""Seconds that a run may wait for its begin; a SuperLink whose SuperExec ended never begins one."""
STOP_SECONDS = 120.0
"""Seconds that a stopped run may take to end; Flower's processes learn of it by their next heartbeat."""
SILENT = 2
"""How often in a row the SuperLink may leave the query of the run's status unanswered."""

OnReply = Callable[[int], None]
"""Function that is called after each client's training with the number of the round."""


def train(scenario: Scenario, out: Path, on_reply: OnReply = lambda _: None, options: Options = DEFAULT) -> None:
    """Run the scenario's federation on a deployment, in folder `out`.

    SuperNodes keep their clients' states for one run of Flower only: where defenses may need them, a stopped run starts
    again with its first round, with the same result. A SuperNode that fails costs the run its client, a SuperLink that
    does ends it. Raises RequestError where no deployment is up, RunError when the run fails.
    """
    at = _joined(scenario, options)
    _stop_former(at, out)
    start_over(scenario, out)
    app = at / "flower" / "app"
    _write_app(app)
    config = app.parent / "run.toml"
    files.write(config, tomli_w.dumps({"scenario": scenario.to_toml(), "out": str(out.resolve())}))
    begun = rehearsal.flower(at, "run", str(app.resolve()), rehearsal.NAME, "--run-config", str(config.resolve()))
    run = str(begun["run-id"])
    files.write_json(RunFolder(out).flower_run, {"run": run})
    try:
        _follow(at, run, scenario, out, on_reply)
    except (KeyboardInterrupt, RunError):
        with suppress(RunError):
            rehearsal.flower(at, "stop", run, rehearsal.NAME)
        raise
    RunFolder(out).flower_run.unlink(missing_ok=True)


def _joined(scenario: Scenario, options: Options) -> Path:
    """The folder of the deployment to run on; SuperNodes are started where there are fewer than the scenario's clients.

    A deployment named by its SuperLink is taken as it is. Raises RequestError where none is up or a process of it died.
    """
    at, clients = options.deployment, scenario.federation.clients
    if options.superlink is not None:
        joined = at / "joined"
        rehearsal.configure(joined, options.superlink, options.root_certificates)
        return joined
    there = rehearsal.read(at)
    if there is None:
        raise RequestError(
            f"--engine deployment: nothing is up; start it with fedinv up --clients {clients} --tls, "
            "or name a SuperLink that is there with --superlink HOST:PORT"
        )
    dead = [process.what for process in there.processes if not process.alive]
    dead += [f"{process.what}'s SuperExec" for process in there.processes if process.alive and not process.has_helper]
    if dead:
        raise RequestError(f"--engine deployment: {', '.join(dead)} ended; start anew with fedinv down and fedinv up")
    if len(there.nodes) < clients:
        rehearsal.more(at, there, clients, _say)
    return at


def _write_app(folder: Path) -> None:
    """Write a Flower app that only names our two apps, whose code is installed where SuperLink and SuperNodes run."""
    package = "fedinv._roles." if roles.folder("clients").parent.name == "_roles" else ""
    declared: dict[str, Any] = {
        "project": {"name": "fedinv", "version": __version__, "description": "fedinv", "license": "Apache-2.0"},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "fedinv",
                    "components": {"serverapp": f"{package}server.app:app", "clientapp": f"{package}clients.app:app"},
                    "config": {"scenario": "", "out": ""},
                }
            }
        },
    }
    files.write(folder / "pyproject.toml", tomli_w.dumps(declared))


def _stop_former(at: Path, out: Path) -> None:
    """Stop the run of Flower that a killed command left behind and that still writes to the folder.

    Raises RequestError where it does not end.
    """
    folder = RunFolder(out)
    if not folder.flower_run.is_file():
        return
    former = str(files.read_json(folder.flower_run).get("run"))
    with suppress(RunError):  # of another deployment, or ended already
        rehearsal.flower(at, "stop", former, rehearsal.NAME)
    deadline = time.monotonic() + STOP_SECONDS
    while lock.is_held(out, lock.TRAINING):
        if time.monotonic() > deadline:
            raise RequestError(f"{out}: run {former} of Flower still trains it; end it with flwr stop {former}")
        time.sleep(POLL_SECONDS)
    folder.flower_run.unlink(missing_ok=True)


def _follow(at: Path, run: str, scenario: Scenario, out: Path, on_reply: OnReply) -> None:
    """Wait for the run's end, reporting each finished round; raises RunError when it ends without a ledger."""
    folder, rounds = RunFolder(out), scenario.federation.rounds
    begun = read_progress(folder, rounds)
    told = 0 if begun is None else begun.round
    asked = started = time.monotonic()
    silent, idle = 0, frozenset[Process]()
    while not folder.is_trained:
        time.sleep(POLL_SECONDS)
        now = read_progress(folder, rounds)
        done = 0 if now is None else now.round
        for round_ in range(told + 1, done + 1):
            for _ in range(scenario.federation.participants):
                on_reply(round_)
        told = max(told, done)
        if time.monotonic() - asked < ASK_SECONDS:
            continue
        before, idle = idle, _idle(at)
        try:
            (state,) = rehearsal.flower(at, "list", "--run-id", run, rehearsal.NAME)["runs"]
            silent = 0
        except RunError as error:
            silent += 1
            if silent > SILENT:
                raise RunError(f"the SuperLink does not answer: {error}") from None
            continue
        finally:
            asked = time.monotonic()
        status = str(state["status"])
        if status.startswith("finished") and not folder.is_trained:
            raise _why(at, status, str(state.get("status-details", "")))
        _refuse_endless(status, before & idle, asked - started)
        _leave_out(before & idle)


def _idle(at: Path) -> frozenset[Process]:
    """The processes of `fedinv up` that run without their SuperExec.

    Such a SuperLink begins no run, and such a SuperNode answers nothing though it counts as online. Raises RunError
    where the SuperLink ended.
    """
    there = rehearsal.read(at)
    if there is None:  # joined from elsewhere: its processes cannot be seen
        return frozenset()
    if not there.superlink.alive:
        told = rehearsal.last_words(at, there.superlink)
        rehearsal.down(at)
        raise RunError(
            f"the SuperLink ended during the run (last line of its log: {told}), and the deployment was ended with it: "
            f"see {at / 'logs'} and start anew with fedinv up"
        )
    return frozenset(process for process in there.processes if process.alive and not process.has_helper)


def _refuse_endless(status: str, idle: frozenset[Process], waited: float) -> None:
    """Raise RunError for a run that was not begun and never will be; `waited` is in seconds."""
    if status not in ("pending", "starting"):
        return
    if any(process.what == rehearsal.SUPERLINK for process in idle):
        raise RunError("the SuperLink's SuperExec ended before the run began: fedinv down, and fedinv up, start anew")
    if waited > BEGIN_SECONDS:
        raise RunError(
            f"the SuperLink did not begin the run within {BEGIN_SECONDS:.0f} s: see whether its SuperExec is running"
        )


def _leave_out(idle: frozenset[Process]) -> None:
    """End SuperNodes whose SuperExec ended, so that the server goes on without them rather than wait for the round."""
    for process in sorted(idle, key=lambda one: one.what):
        if process.what != rehearsal.SUPERLINK:
            _say(f"{process.what}'s SuperExec ended: it is ended too, and the run goes on without its client")
            processes.end([process.pid, *processes.descendants(process.pid)])


def _why(at: Path, status: str, details: str) -> RunError:
    """Why a run failed: the last error of fedinv's in the SuperLink's log, or else Flower's status and details."""
    log = at / "logs" / "superlink.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    for line in reversed(lines):
        for error in (EndedError, RunError, RequestError):
            if f"{error.__name__}: " in line:
                told = line.split("Error: ", 1)[1]
                return EndedError(told) if error is EndedError else RunError(told)
    return RunError(f"the run on the SuperLink ended as {status} ({plain(details)}); see {at / 'logs'}")


def _say(line: str) -> None:
    print(f"fedinv: {line}", file=sys.stderr)  # noqa: T201
