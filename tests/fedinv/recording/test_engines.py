"""The same app with no line changed is recorded alike on three engines, by its server and by its clients."""

import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import fedinv
from fedinv.cli import app
from fedinv.engines.deployment import rehearsal
from fedinv.errors import RequestError

APP = Path(__file__).parents[2] / "apps/mods"
ROOT = Path(__file__).parents[3]


def arrays(folder):
    """What each training sent and brought back, by digest, one line a client."""
    return sorted((one.round, *one.asked.arrays.values(), *one.answered.arrays.values()) for one in folder.updates)


def contents(folder):
    """All messages by node, in the order in which each node got its own."""
    return sorted((one.node, one.round, one.kind, one.asked, one.answered, one.failure) for one in folder.exchanges)


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """The recording of the engine in this process, with as many threads as the others: sums depend on it."""
    torch.set_num_threads(1)
    return fedinv.record(APP, nodes=2, out=tmp_path_factory.mktemp("inline"))


def alike(out, inline):
    server, clients = fedinv.open_recording(out / "server"), fedinv.open_recording(out / "clients")
    assert (server.side, clients.side) == ("server", "client")
    assert contents(server) == contents(clients)
    assert {one.partition for one in clients.exchanges} == {0, 1}
    assert not server.skipped + clients.skipped
    assert arrays(server) == arrays(inline)
    assert len(server.updates) == 2
    names = [{path.name for path in (out / side / "wire").glob("*.safetensors")} for side in ("server", "clients")]
    assert names[0] == names[1] == {path.name for path in (inline.folder / "wire").glob("*.safetensors")}


def test_in_this_process(inline, tmp_path):
    copy = tmp_path / "copy"
    assert fedinv.recorded_copy(APP, copy, out=tmp_path / "out") == copy
    fedinv.record(copy, nodes=2, out=tmp_path / "again")
    alike(tmp_path / "out", inline)
    assert arrays(fedinv.open_recording(tmp_path / "again")) == arrays(inline)


def test_a_copy_is_written_to_a_new_folder_outside_of_the_app(tmp_path):
    (tmp_path / "there").mkdir()
    for to, words in ((tmp_path / "there", "is there already"), (APP / "copy", "lies within the app itself")):
        with pytest.raises(RequestError, match=words):
            fedinv.recorded_copy(APP, to, out=tmp_path / "out")
    done = CliRunner().invoke(app, ["record", str(APP), "--copy", str(tmp_path / "c"), "--out", str(tmp_path / "out")])
    assert done.stdout.startswith(f"{tmp_path}/c: run it with flwr run")
    assert not (tmp_path / "c/modded/__pycache__").exists()
    for name in ("modded/task.py", "modded/client_app.py", "modded/server_app.py"):
        assert (tmp_path / "c" / name).read_bytes() == (APP / name).read_bytes()


def test_a_copy_ships_its_module_and_leaves_data_out(tmp_path):
    shutil.copytree(APP, tmp_path / "app")
    declared = tmp_path / "app/pyproject.toml"
    declared.write_text(
        declared.read_text().replace('publisher = "example"', 'publisher = "me"\nfab-include = ["a/*"]')
    )
    with (tmp_path / "app/data.bin").open("wb") as file:
        file.truncate(11 * 1024**2)
    fedinv.recorded_copy(tmp_path / "app", tmp_path / "copy", out=tmp_path / "out")
    assert not (tmp_path / "copy/data.bin").exists()
    document = tomllib.loads((tmp_path / "copy/pyproject.toml").read_text())
    assert document["tool"]["flwr"]["app"]["fab-include"] == ["a/*", "fedinv_recorded.py"]
    assert document["tool"]["flwr"]["app"]["config"]["clip"] == {"norm": 1.0}


@pytest.mark.slow
def test_on_ray(inline, tmp_path, start):
    paths = os.pathsep.join([str(ROOT), str(APP)])
    environment = {**os.environ, "PYTHONPATH": paths, "FLWR_HOME": str(tmp_path), "FLWR_TELEMETRY_ENABLED": "0"}
    environment |= {"FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "benchmarks/ray_recording.py", APP, tmp_path / "out", "2"]
    done = start(command, cwd=tmp_path, env=environment).ended()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    alike(tmp_path / "out", inline)


@pytest.mark.slow
def test_on_supernodes(inline, tmp_path, until):
    fedinv.recorded_copy(APP, tmp_path / "copy", out=tmp_path / "out")
    at = tmp_path / "up"
    try:
        rehearsal.up(at, 2, False, lambda line: None)
        begun = rehearsal.flower(at, "run", str(tmp_path / "copy"), rehearsal.NAME, "--run-config", "ask-labels=false")

        def ended():
            (state,) = rehearsal.flower(at, "list", "--run-id", str(begun["run-id"]), rehearsal.NAME)["runs"]
            return str(state["status"]).startswith("finished")

        # asking costs a second each time, so the log is looked at first
        until(lambda: "Finished task" in (at / "logs/superlink.log").read_text(), "the app of the server ends")
        until(ended, "the run ends")
    finally:
        rehearsal.down(at)
    alike(tmp_path / "out", inline)
