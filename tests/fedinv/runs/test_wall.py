import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedinv.attack import Attack, Claim, Exchange, Observation
from fedinv.errors import RunError
from fedinv.runs import attack_runner
from fedinv.runs.wall import WallError, wall
from fedinv.scenario.reading import loads

ROOT = Path(__file__).parents[3]


class Reaching(Attack):
    """Tries to import what produces the records."""

    kind: str = "reaching"
    module: str

    def run(self, seen, knows, rng, progress):
        module = __import__(self.module, fromlist=["population"])
        return Claim(torch.zeros(0, 1), torch.zeros(0), notes=(str(module),))


class Looking(Attack):
    """Walks over everything it is given, as far as references lead."""

    kind: str = "looking"

    def run(self, seen, knows, rng, progress):
        reached, todo = set(), [seen, knows]
        while todo:
            thing = todo.pop()
            if id(thing) in reached or isinstance(thing, (str, int, float, torch.Tensor, np.ndarray)):
                continue
            reached.add(id(thing))
            name = type(thing).__name__
            assert name not in {"Scenario", "Population", "Table", "Hospital", "Context"}, name
            if isinstance(thing, dict):
                todo += [*thing.values()]
            elif isinstance(thing, (tuple, list)):
                todo += [*thing]
            else:
                inside = getattr(thing, "__dict__", {})
                assert "seed" not in inside
                todo += [*inside.values()]
        return Claim(torch.zeros(0, 1), torch.zeros(0), notes=(f"{len(reached)} objects",))


@pytest.mark.parametrize(
    "module",
    ["fedinv.data.population", "clients.app", "fedinv.scenario", "fedinv.data.batches", "fedinv.judge.truth"],
)
def test_an_attack_that_reaches_for_the_truth_cannot(tiny, tmp_path, module):
    with pytest.raises(RunError, match=f"may not import {module.split('.')[0]}"):
        _attack(tiny, tmp_path, Reaching(module=module))


def test_what_an_attack_is_given_leads_to_no_record_and_no_seed(tiny, tmp_path):
    ((_, claim),) = _attack(tiny, tmp_path, Looking()).claims
    assert int(claim.notes[0].split()[0]) > 3


def test_the_wall_comes_down_again():
    import fedinv.data.population as before

    with pytest.raises(WallError), wall():
        __import__("fedinv.data.population")
    import fedinv.data.population as after

    assert before is after
    assert sys.modules["fedinv.data"].population is before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("server/attacks/thief.py", "import clients.training.plain_sgd"),
        ("server/inversion/thief.py", "from fedinv.data import population"),
        ("server/attacks/thief.py", "from fedinv.scenario import read"),
        ("fedinv/judge/thief.py", "import server.app"),
    ],
)
def test_the_linter_finds_a_breach_in_the_source(tmp_path, file, line):
    for name in ("fedinv", "clients", "server"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    (tmp_path / file).write_text(f'"""A breach."""\n{line}\n')
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


def _attack(tiny, folder, attack):
    scenario = loads(tiny)
    schema = '{"columns": [{"kind": "continuous", "name": "x", "mean": 0, "std": 1, "low": -1, "high": 1, "mode": 0}]'
    (folder / "schema.json").write_text(schema + ', "label": "y", "classes": ["a", "b"]}')
    weights = {"0.weight": torch.zeros(2, 1)}
    seen = Observation((0,), (Exchange(1, weights, weights, 1),))
    assault = attack_runner.Assault(attack, "static", "client")
    return attack_runner.run_attack(scenario, folder, assault, [seen], attack_runner.Handed(seen), lambda _: None)
