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
from fedinv.engines.deployment import rehearsal
from fedinv.errors import EndedError, RequestError, RunError, plain
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files
from fedinv.storage.checkpoints import read_progress
from fedinv.storage.run_folder import RunFolder
from fedinv.version import __version__

POLL_SECONDS = 0.5
"""Seconds between two looks at the run's folder for a finished round."""
ASK_SECONDS = 10.0
"""Seconds between two queries of the run's status, each of which takes the SuperLink a second."""

OnReply = Callable[[int], None]
"""Function that is called after each client's training with the number of the round."""


def train(scenario: Scenario, out: Path, on_reply: OnReply = lambda _: None, options: Options = DEFAULT) -> None:
    """Run the scenario's federation on a deployment, in folder `out`.

    SuperNodes keep their clients' states for one run of Flower only: where defenses may need them, a stopped run starts
    again with its first round, with the same result. Raises RequestError where no deployment is up, RunError when the
    run fails.
    """
    at = _joined(scenario, options)
    start_over(scenario, out)
    app = at / "flower" / "app"
    _write_app(app)
    config = app.parent / "run.toml"
    files.write(config, tomli_w.dumps({"scenario": scenario.to_toml(), "out": str(out.resolve())}))
    begun = rehearsal.flower(at, "run", str(app.resolve()), rehearsal.NAME, "--run-config", str(config.resolve()))
    run = str(begun["run-id"])
    try:
        _follow(at, run, scenario, out, on_reply)
    except KeyboardInterrupt:
        with suppress(RunError):
            rehearsal.flower(at, "stop", run, rehearsal.NAME)
        raise


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
    if dead:
        raise RequestError(f"--engine deployment: {', '.join(dead)} ended; start anew with fedinv down and fedinv up")
    if len(there.nodes) < clients:
        rehearsal.more(at, there, clients, lambda line: print(f"fedinv: {line}", file=sys.stderr))  # noqa: T201
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


def _follow(at: Path, run: str, scenario: Scenario, out: Path, on_reply: OnReply) -> None:
    """Wait for the run's end, reporting each finished round; raises RunError when it ends without a ledger."""
    folder, asked, rounds = RunFolder(out), time.monotonic(), scenario.federation.rounds
    begun = read_progress(folder, rounds)
    told = 0 if begun is None else begun.round
    while not folder.is_trained:
        time.sleep(POLL_SECONDS)
        now = read_progress(folder, rounds)
        done = 0 if now is None else now.round
        for round_ in range(told + 1, done + 1):
            for _ in range(scenario.federation.participants):
                on_reply(round_)
        told = max(told, done)
        if time.monotonic() - asked > ASK_SECONDS:
            asked = time.monotonic()
            (state,) = rehearsal.flower(at, "list", "--run-id", run, rehearsal.NAME)["runs"]
            if str(state["status"]).startswith("finished") and not folder.is_trained:
                raise _why(at, str(state["status"]), str(state.get("status-details", "")))


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
