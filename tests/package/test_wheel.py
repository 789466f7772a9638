import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


HOME = "https://forge.test/fedinv"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel and the source distribution, made for a repository at HOME."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)]
    environment = {**os.environ, "FEDINV_HOME": HOME}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.mark.slow
def test_an_index_would_take_both_and_show_the_readme_with_its_picture(built, wheel):
    (source,) = built.glob("*.tar.gz")
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
    with zipfile.ZipFile(wheel) as files:
        (path,) = [name for name in files.namelist() if name.endswith("dist-info/METADATA")]
        said = message_from_bytes(files.read(path))
    assert f"]({HOME}/raw/HEAD/docs/report.png)" in said.get_payload()
    assert {line.split(", ")[0] for line in said.get_all("Project-URL")} >= {"Source", "Documentation", "Issues"}
    with tarfile.open(source) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {"README.md", "LICENSE", "CITATION.cff", "hatch_build.py", "fedinv/py.typed", "clients/app.py"} <= names
    assert not [name for name in names if name.startswith((".venv/", "site/", "runs/", "dist/"))]


def test_the_wheel_ships_the_roles_inside_and_nothing_beside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"fedinv", f"{wheel.name.split('-py3')[0]}.dist-info"}
    for needed in (
        "fedinv/py.typed",
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


@pytest.mark.slow
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
