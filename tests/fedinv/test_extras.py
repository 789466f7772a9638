"""What a plain install lacks is named with the extra that brings it, and nothing else needs it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedinv import errors
from fedinv.runs import run
from fedinv.scenario.reading import read
from fedinv.studies.workers import Workers, pool

HIDING = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
sys.meta_path.insert(0, Hidden())
import fedinv
from fedinv import roles
from fedinv.runs.run import _engine
for group in ("attacks", "defenses", "datasets", "deviations", "detectors"):
    assert fedinv.available(group)
_engine("inline"), _engine("deployment"), roles.load("clients", "app"), roles.load("server", "app")
import fedinv.cli, fedinv.studies.compare, fedinv.studies.assess, fedinv.recording.tap
"""


@pytest.fixture
def without_ray(monkeypatch):
    found = errors.find_spec
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "ray" else found(name))


def test_the_ray_engine_names_its_extra_before_anything_is_written(without_ray):
    with pytest.raises(
        errors.RequestError, match=r"engine 'ray': ray is not installed here: pip install 'fedinv\[ray\]'"
    ):
        run.check(read("hospital"), "ray")
    run.check(read("hospital"), "inline")


def test_so_does_a_study_on_a_cluster(without_ray):
    with (
        pytest.raises(errors.RequestError, match=r"--ray-address: .*fedinv\[ray\]"),
        pool(Workers(None, "h:1"), 1, "x"),
    ):
        pass


def test_each_extra_that_an_error_names_exists():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(run.EXTRAS) <= set(project["optional-dependencies"])
    assert not any("simulation" in one for one in project["dependencies"])


@pytest.mark.slow
def test_nothing_else_imports_ray():
    done = subprocess.run([sys.executable, "-c", HIDING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
