"""A package of other people, installed beside the wheel: its attack, defense and data set work as the built-in ones."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ATTACK = '''"""Claims the average record, whoever was there."""

from typing import Literal

import torch

from fedinv.attack import Attack, Claim


class Average(Attack):
    """Needs the schema."""

    kind: Literal["average"] = "average"
    confidence: float = 0.2

    def run(self, seen, knows, rng, progress):
        """Claim as many as the message counts."""
        if knows.schema is None:
            return Claim(torch.zeros(0, 1), torch.zeros(0), notes=("the schema is withheld",))
        count = seen.last.records
        return Claim(knows.schema.guess(count), torch.full((count,), self.confidence))
'''
DEFENSE = '''"""Sends half of every update."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fedinv.defense import Defense


class Share(Defense):
    """update -> share * update."""

    kind: Literal["share"] = "share"
    neutral: ClassVar[Mapping[str, Any] | None] = {"share": 1.0}
    share: float = 0.5

    def protect(self, update, sending):
        """Shorten it."""
        return {name: self.share * tensor for name, tensor in update.items()}
'''
DATASET = '''"""Made-up visitors of a pool."""

from typing import Literal

import numpy as np

from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.task.columns import fit_categorical, fit_continuous
from fedinv.task.schema import Schema


class Pool(Dataset):
    """Age, ward, and whether they swim."""

    people = "visitors"
    source: Literal["pool"]

    def load(self, seed):
        """A hundred of them."""
        rng = np.random.default_rng(seed)
        age, ward = rng.integers(5, 90, 100).astype(float), rng.choice(["a", "b"], 100)
        schema = Schema(
            columns=(fit_continuous("age", age, integer=True, sensitive=True), fit_categorical("ward", ward)),
            label="swims",
            classes=("no", "yes"),
        )
        return Table(schema=schema, columns={"age": age, "ward": ward}, labels=(age < 40).astype(np.int64))
'''
BROKEN = '"""Lacks what it imports."""\nimport a_package_that_nobody_has\n'
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "fedinv-pool"
version = "1.0"
[tool.hatch.build.targets.wheel]
packages = ["fedinv_pool"]
[project.entry-points."fedinv.attacks"]
average = "fedinv_pool.average:Average"
broken = "fedinv_pool.broken:Broken"
[project.entry-points."fedinv.defenses"]
share = "fedinv_pool.share:Share"
[project.entry-points."fedinv.datasets"]
pool = "fedinv_pool.pool:Pool"
"""
SCENARIO = """
name = "pool"
seed = 3
[data]
source = "pool"
[model]
kind = "mlp"
hidden = [8]
[federation]
clients = 3
rounds = 2
[training]
algorithm = "fedavg"
batch_size = 4
records_per_client = 8
lr = 0.05
[attacker]
watch = { rounds = [1], clients = 2 }
[[defenses]]
kind = "share"
share = 0.25
[[attacks]]
kind = "average"
confidence = 0.4
"""


def built(project, folder):
    """The wheel of a project, built without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a fresh environment with both wheels; torch and the like are this interpreter's own."""
    home = tmp_path_factory.mktemp("beside")
    project = home / "project"
    package = project / "fedinv_pool"
    package.mkdir(parents=True)
    (project / "pyproject.toml").write_text(PROJECT)
    for name, text in {"average": ATTACK, "share": DEFENSE, "pool": DATASET, "broken": BROKEN}.items():
        (package / f"{name}.py").write_text(text)
    (package / "__init__.py").write_text("")
    wheels = [built(ROOT, home / "fedinv"), built(project, home / "pool")]
    venv.create(home / "venv", with_pip=False, symlinks=True)
    interpreter = home / "venv" / "bin" / "python"
    asked = [str(interpreter), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    for wheel in wheels:  # what pip does with a wheel of pure Python, --no-deps
        zipfile.ZipFile(wheel).extractall(site)
    # behind the environment's own: path lines of the shared folder itself are not read, so that no checkout slips in
    shared = [p for p in sys.path if p and Path(p).name in ("site-packages", "dist-packages")]
    shared += [sysconfig.get_path("purelib")]
    (site / "shared.pth").write_text("\n".join(dict.fromkeys(shared)) + "\n")
    return interpreter


def fedinv(python, folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    command = [str(python), "-c", "from fedinv.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_the_packages_plugins_are_listed_and_run_and_its_broken_one_harms_nothing(python, tmp_path):
    # one test, as each worker that runs one of several would build the wheels anew
    command = [str(python), "-c", "import fedinv; print(fedinv.__file__)"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found).is_relative_to(python.parents[1])
    listed_beside_the_built_in_ones(python, tmp_path)
    a_scenario_with_all_three_runs_to_its_verdict(python, tmp_path)
    the_broken_one_is_one_line_and_harms_nothing(python, tmp_path)


def listed_beside_the_built_in_ones(python, tmp_path):
    # one process for all groups, which imports torch once
    asked = (
        "import fedinv, json; print(json.dumps({g: fedinv.available(g) for g in ('attacks', 'defenses', 'datasets')}))"
    )
    done = subprocess.run([str(python), "-c", asked], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    groups = json.loads(done.stdout)
    for group, kind in (("attacks", "average"), ("defenses", "share"), ("datasets", "pool")):
        assert groups[group][kind] == "from fedinv-pool"
        assert len([row for row in groups[group].values() if not row.startswith(("from ", "cannot"))]) >= 5


def a_scenario_with_all_three_runs_to_its_verdict(python, tmp_path):
    (tmp_path / "pool.toml").write_text(SCENARIO)
    done = fedinv(python, tmp_path, "run", "pool.toml", "--out", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (attack,) = [one for one in results["attacks"] if one["variant"] == "static"]
    assert attack["kind"] == "average"
    assert attack["parameters"]["confidence"] == 0.4
    assert attack["claimed"] == attack["records"] == 16
    assert attack["undefended"] is not None
    assert results["utility"]["undefended"] is not None
    assert "visitors" in results["headline"] or "visitors" in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "report.html").is_file()


def the_broken_one_is_one_line_and_harms_nothing(python, tmp_path):
    listed = fedinv(python, tmp_path, "list", "attacks")
    assert listed.returncode == 0, listed.stderr
    (row,) = [line for line in listed.stdout.splitlines() if line.startswith("broken ")]
    assert "cannot be loaded: ModuleNotFoundError" in row
    assert "fedinv_pool/broken.py:2" in row
    (tmp_path / "pool.toml").write_text(SCENARIO.replace('"average"\nconfidence = 0.4', '"broken"'))
    asked = fedinv(python, tmp_path, "run", "pool.toml", "--out", "run")
    assert asked.returncode == 2
    assert asked.stderr.count("\n") == 1
    assert "pool.toml: attack 'broken' cannot be loaded: ModuleNotFoundError" in asked.stderr
