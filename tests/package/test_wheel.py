import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_ships_the_roles_inside_and_nothing_beside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"fedinv", f"{wheel.name.split('-py3')[0]}.dist-info"}
    for needed in (
        "fedinv/_roles/clients/app.py",
        "fedinv/_roles/server/attacks/exact.py",
        "fedinv/_scenarios/hospital.toml",
        "fedinv/_scenarios/data/clinic.csv",
        "fedinv/report/templates/run.html.j2",
    ):
        assert needed in names


@pytest.mark.slow
def test_an_installed_wheel_runs_from_any_folder_beside_a_stranger_called_server(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    (elsewhere / "server").mkdir(parents=True)
    (elsewhere / "server/__init__.py").write_text("raise SystemExit('the stranger was imported')\n")
    (elsewhere / "clients.py").write_text("raise SystemExit('the stranger was imported')\n")
    command = [sys.executable, "-c", "from fedinv.cli import main; main()", "run", "own-table", "--out", "run"]
    command += ["--set", "federation.rounds=1", "--set", "attacker.watch.clients=1", "--set", "model.hidden=[64]"]
    command += ["--attack", "exact:fall_back=false"]
    environment = {**os.environ, "PYTHONPATH": f"{elsewhere}:{site}"}
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (elsewhere / "run/report.html").is_file()


APP = """
import fedinv
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity
import numpy as np

try:
    defend = fedinv.defend
except AttributeError:
    from fedinv.defend_mod import defend

app = ClientApp(mods=[defend("top-k:keep=0.25", seed=1)])


@app.train()
def train(message, context):
    return Message(RecordDict({"arrays": ArrayRecord({"w": Array(np.array([1.0, 2.0, 3.0, 4.0]))})}), reply_to=message)


TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
asked = Message(RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(4))})}), 5, "train")
reply = app(asked, Context(run_id=1, node_id=5, node_config={}, state=RecordDict(), run_config={}))
print(fedinv.__file__, reply.content["arrays"]["w"].numpy().tolist())
"""


def test_a_mod_is_imported_by_one_path_from_the_wheel_and_from_a_checkout(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    (elsewhere / "app.py").write_text(APP)
    (elsewhere / "clients.py").write_text("raise SystemExit('the stranger was imported')\n")
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "app.py").write_text(APP)
    for home, folder in ((site, elsewhere), (ROOT, beside)):  # a checkout's own folder may not have a stranger beside
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{home}"}
        command = [sys.executable, "app.py"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split(maxsplit=1) == [str(home / "fedinv/__init__.py"), "[0.0, 0.0, 0.0, 4.0]\n"]


def test_a_stranger_in_place_of_a_role_is_refused(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server/__init__.py").write_text("")
    (tmp_path / "server/app.py").write_text("app = None\n")
    command = [sys.executable, "-c", "from fedinv import roles; roles.load('server', 'app')"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "instead of fedinv's own server/" in done.stderr
