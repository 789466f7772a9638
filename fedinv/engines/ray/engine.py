"""Flower's own simulation: the same two apps, with Ray spreading the clients over this machine or a cluster.

Flower and Ray run in a process of their own (`driver`), which gets its order over one pipe and reports over another.
What they print is kept in the run's ray.log. However this process ends, the first pipe closes, and the driver then
ends itself and everything it started.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedinv.engines import DEFAULT, Options, start_over
from fedinv.errors import EndedError, RequestError, RunError
from fedinv.scenario.scenario import Scenario
from fedinv.storage.run_folder import RunFolder

OnReply = Callable[[int], None]
"""Function that is called after each client's training with the number of the round."""

_ERRORS = {error.__name__: error for error in (RequestError, RunError, EndedError)}


def train(scenario: Scenario, out: Path, on_reply: OnReply = lambda _: None, options: Options = DEFAULT) -> None:
    """Run the scenario's federation in folder `out`, from its last checkpoint where there is one.

    Clients' states between rounds are lost with the driver's process: where defenses may need them, a stopped run
    starts again with its first round, with the same result. Raises RequestError for resources that no machine has or
    an address without a cluster, RunError when no client can be used or Ray fails.
    """
    out = out.resolve()
    start_over(scenario, out)
    order = {"scenario": scenario.to_toml(), "out": str(out), "options": _plain(options)}
    ended: dict[str, Any] = {}
    with _driver(out, order) as told:
        for message in told:
            if "round" in message:
                on_reply(message["round"])
            else:
                ended = message
    if not ended:
        log = RunFolder(out).engine_log
        raise RunError(f"Flower's simulation on Ray ended unexpectedly; what it said last is in {log}")
    if "error" in ended:
        raise _ERRORS[ended["error"]](" ".join(ended["message"].split()))
    RunFolder(out).engine_log.unlink(missing_ok=True)


@contextmanager
def _driver(out: Path, order: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
    """Start the driver and yield its reports until it ends. Neither it nor Ray outlives the block."""
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path)
    environment = {**os.environ, **_SETTINGS, "PYTHONPATH": paths}
    command = [sys.executable, "-P", "-c", "from fedinv.engines.ray.driver import main; main()"]
    out.mkdir(parents=True, exist_ok=True)
    # Ray puts its sockets there, whose paths must be short; it must be empty, as workers import from their folder
    scratch = tempfile.TemporaryDirectory(prefix="fedinv-", dir=_short(), ignore_cleanup_errors=True)
    with scratch as folder, RunFolder(out).engine_log.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # its own group: Ctrl-C reaches only this process, and one signal ends the group
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
            yield map(json.loads, process.stdout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            with suppress(BrokenPipeError):
                process.stdin.close()


_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # or under `uv run` Ray ships the working folder
    "RAY_worker_register_timeout_seconds": "600",  # a worker imports for a while before Ray hears of it
    "RAY_GCS_SERVER_REQUEST_TIMEOUT_SECONDS": "600",
    "RAY_worker_niceness": "0",  # by default its workers give way to everything else on the machine
}


def _short() -> str | None:
    return "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108


def _plain(options: Options) -> dict[str, Any]:
    return {name: value for name, value in asdict(options).items() if name.startswith(("ray_", "client_"))}
