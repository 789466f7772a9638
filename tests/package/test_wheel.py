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
    environment = {**os.environ, "PYTHONPATH": f"{elsewhere}:{site}"}
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (elsewhere / "run/report.html").is_file()


def test_a_stranger_in_place_of_a_role_is_refused(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server/__init__.py").write_text("")
    (tmp_path / "server/app.py").write_text("app = None\n")
    command = [sys.executable, "-c", "from fedinv import roles; roles.load('server', 'app')"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "instead of fedinv's own server/" in done.stderr
