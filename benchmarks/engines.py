"""Five apps after Flower's published ones, no line changed, recorded on three engines by server and clients."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fedinv
from fedinv.engines.deployment import rehearsal

HOME = Path(__file__).parents[1]
APPS = HOME / "tests/apps"
NAMES = ("tabular", "images", "opacus", "mods", "secagg")
NODES = 3


def main() -> None:
    """Print for each app and engine whether server and clients recorded the same, and how much."""
    print(f"{'app':8} {'engine':16} {'digests':10} messages updates  seconds")
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            show(name, "this process", in_this_process, Path(folder) / f"{name}-inline")
            show(name, "Ray", on_ray, Path(folder) / f"{name}-ray")
        at = Path(folder) / "up"
        try:
            rehearsal.up(at, NODES, False, lambda line: None)
            for name in NAMES:
                show(name, "SuperNodes", lambda app, out: on_supernodes(at, app, out), Path(folder) / f"{name}-nodes")
        finally:
            rehearsal.down(at)


def show(name: str, engine: str, run: Callable[[Path, Path], None], out: Path) -> None:
    """Run an app on an engine and print one line."""
    begun = time.perf_counter()
    run(APPS / name, out)
    seconds = time.perf_counter() - begun
    server, clients = (fedinv.open_recording(out / side) for side in ("server", "clients"))
    same = contents(server) == contents(clients) and not server.skipped + clients.skipped
    counts = f"{len(server.exchanges):8} {len(server.updates):7} {seconds:8.0f}"
    print(f"{name:8} {engine:16} {'equal' if same else 'DIFFERENT':10} {counts}", flush=True)


def contents(recording: fedinv.Recording) -> list[tuple[int, int, str, str]]:
    """All messages and replies, in an order that does not depend on who came first."""
    exchanges = recording.exchanges
    return sorted((one.node, one.round, one.kind, f"{one.asked} {one.answered} {one.failure}") for one in exchanges)


def in_this_process(app: Path, out: Path) -> None:
    """Run a recorded copy of an app as `fedinv record` does."""
    copy = fedinv.recorded_copy(app, out.with_name(f"{out.name}-copy"), out=out)
    environment = {**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fedinv.cli", "record", str(copy), "--nodes", str(NODES), "--out", f"{out}-again"]
    subprocess.run(command, check=True, capture_output=True, env=environment)


def on_ray(app: Path, out: Path) -> None:
    """Run an app on Flower's simulation."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOME), str(app)]), "OMP_NUM_THREADS": "1"}
    environment |= {"FLWR_HOME": str(out), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    command = [sys.executable, "-m", "benchmarks.ray_recording", str(app), str(out), str(NODES)]
    out.mkdir()
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=out)


def on_supernodes(at: Path, app: Path, out: Path) -> None:
    """Run a recorded copy of an app by `flwr run` on a deployment."""
    copy = fedinv.recorded_copy(app, out.with_name(f"{out.name}-copy"), out=out)
    begun = rehearsal.flower(at, "run", str(copy), rehearsal.NAME)
    while True:
        (state,) = rehearsal.flower(at, "list", "--run-id", str(begun["run-id"]), rehearsal.NAME)["runs"]
        if str(state["status"]).startswith("finished"):
            return
        time.sleep(1)
