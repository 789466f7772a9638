import json
import os
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from fedinv.engines import Options
from fedinv.engines.deployment.processes import free_ports
from fedinv.engines.ray import engine
from fedinv.errors import RequestError
from fedinv.scenario.reading import loads
from fedinv.studies.workers import Workers, pool


@pytest.fixture
def address(start, until):
    """A Ray cluster of one machine and two CPUs."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path must be short
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=2"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--include-dashboard=false"]
    # ports that Ray finds free and takes in one go, where it can
    (port,) = free_ports(1)
    command += ["--port=0", "--min-worker-port=0", "--max-worker-port=0", f"--ray-client-server-port={port}"]
    head = start([*command, "--disable-usage-stats"], cwd=folder)
    try:
        told = re.compile(r"--address='[\d.]+:(\d+)'")
        until(lambda: told.search(head.output.read_text()), "Ray says where it listens", by=head)
        yield f"127.0.0.1:{told.search(head.output.read_text())[1]}"
    finally:
        head.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_comparison_runs_on_a_cluster_and_leaves_its_cells_on_the_shared_disk(tiny, tmp_path, address, start):
    (tmp_path / "tiny.toml").write_text(tiny.replace("rounds = [1, 2], clients = 2", "rounds = [1], clients = 1"))
    command = [sys.executable, "-m", "fedinv.cli", "compare", "tiny.toml", "--out", "found", "--json"]
    command += ["--defenses", "none", "--attacks", "exact:fall_back=false", "--ray-address", address]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = start(command, cwd=tmp_path, env=environment).ended()
    assert done.returncode == 0, done.stderr
    assert [row["defenses"] for row in json.loads(done.stdout)["rows"]] == ["none"]
    assert "ray" not in done.stderr.lower()
    assert len(list((tmp_path / ".cells").glob("*/results.json"))) == 1

    with pytest.raises(RequestError, match="--client-cpus 3: no machine has that many, the largest has 2"):
        engine.train(loads(tiny), tmp_path / "out", options=Options(ray_address=address, client_cpus=3))


def test_a_cluster_that_is_not_there_is_named(tiny):
    with socket.socket() as taken:  # by one that never answers
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = pytest.raises(RequestError, match=f"--ray-address {address}: nothing answers there.*ray start --head")
        with refused, pool(Workers(ray_address=address), 3, "comparison"):
            pass


def test_processes_are_not_asked_for_on_a_cluster():
    refused = pytest.raises(RequestError, match="leave --jobs or --ray-address out")
    with refused, pool(Workers(2, "127.0.0.1:6379"), 3, "comparison"):
        pass
