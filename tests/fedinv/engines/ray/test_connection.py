import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fedinv.engines import Options
from fedinv.engines.ray import engine
from fedinv.errors import RequestError
from fedinv.scenario.reading import loads
from fedinv.studies import compare
from fedinv.studies.workers import pool


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def address():
    """A Ray cluster of one machine and two CPUs."""
    # a socket's path must be short
    folder, port = tempfile.mkdtemp(prefix="ray-", dir="/tmp"), free_port()
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", f"--ray-client-server-port={free_port()}"]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    process = subprocess.Popen(
        command, cwd=folder, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert any("Ray runtime started" in line for line in process.stdout)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_comparison_runs_on_a_cluster_and_leaves_its_cells_on_the_shared_disk(tiny, tmp_path, address):
    (tmp_path / "tiny.toml").write_text(tiny)
    command = [sys.executable, "-m", "fedinv.cli", "compare", "tiny.toml", "--out", "found", "--json"]
    command += ["--defenses", "none", "--attacks", "exact", "--ray-address", address]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert [row["defenses"] for row in json.loads(done.stdout)["rows"]] == ["none"]
    assert "ray" not in done.stderr.lower()
    assert (compare.cell_folder(loads(tiny), tmp_path / ".cells") / "results.json").is_file()

    with pytest.raises(RequestError, match="--client-cpus 3: no machine has that many, the largest has 2"):
        engine.train(loads(tiny), tmp_path / "out", options=Options(ray_address=address, client_cpus=3))


def test_a_cluster_that_is_not_there_is_named(tiny):
    address = f"127.0.0.1:{free_port()}"
    refused = pytest.raises(RequestError, match=f"--ray-address {address}: nothing answers there.*ray start --head")
    with refused, pool(None, 3, "comparison", address):
        pass


def test_processes_are_not_asked_for_on_a_cluster():
    refused = pytest.raises(RequestError, match="leave --jobs or --ray-address out")
    with refused, pool(2, 3, "comparison", "127.0.0.1:6379"):
        pass
