import configparser
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fedinv import plugins
from fedinv.attack import Attack, Claim, Exchange, Observation
from fedinv.errors import RunError
from fedinv.federation.streams import sealed_stream, stream
from fedinv.runs import attack_runner, run
from fedinv.runs.context import Grants, TrainedRun, with_secret
from fedinv.runs.wall import WallError, is_visible, wall
from fedinv.scenario.reading import loads
from fedinv.storage.run_folder import RunFolder

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


class Subtracting(Attack):
    """Takes the noise off that clients would draw from each seed that it can think of, and keeps what is left."""

    kind: str = "subtracting"
    std: float

    def run(self, seen, knows, rng, progress):
        last, client = seen.last, seen.clients[0]
        guesses = {int(word) for word in rng.bit_generator.seed_seq.entropy} | set(range(300))
        least = min(self._left(last, seed, client) for seed in guesses)
        whole = float(torch.cat([t.flatten() for t in last.received.values()]).norm())
        return Claim(torch.zeros(0, 1), torch.zeros(0), notes=(f"{least} {whole}",))

    def _left(self, last, seed, client):
        # streams.stream, which the wall hides and anyone may copy
        names = f"protect/0/{client}/{last.round}"
        size = -(-seed.bit_length() // 32) * 4 or 4
        words = np.frombuffer(seed.to_bytes(size, "little") + sha256(names.encode()).digest(), np.uint32)
        drawn = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
        noise = torch.Generator().manual_seed(int(drawn.integers(2**63)))
        rest = [t - self.std * torch.randn(t.shape, generator=noise) for t in last.received.values()]
        return float(torch.cat([t.flatten() for t in rest]).norm())


NOISE = '[[defenses]]\nkind = "clip-noise"\nnoise_multiplier = 5.0\nclip = 0.1\n'
PINNED = 'secret = "00112233445566778899aabbccddeeff"\n'


@pytest.mark.parametrize("pinned", [True, False])
def test_an_attack_that_knows_every_seed_cannot_take_the_noise_off(tiny, tmp_path, pinned):
    scenario = loads((tiny if pinned else tiny.replace(PINNED, "")) + NOISE)
    run.run(scenario, run.open_folder(scenario, tmp_path / "run"))
    folder = RunFolder(tmp_path / "run")
    trained = TrainedRun(with_secret(scenario, folder), folder)
    plan = attack_runner.control_plan(Subtracting(std=0.5))
    for _, claim in attack_runner.run_attack(trained, plan, Grants(), lambda _: None).said:
        least, whole = map(float, claim.notes[0].split())
        assert least > 1.2 * whole  # a wrong guess adds as much noise as is there; the right one leaves 0.1
    # the attack's method is right: the clients' own seed takes all noise off
    for seen in trained.seen:
        assert Subtracting(std=0.5)._left(seen.last, trained.scenario.hidden, seen.clients[0]) <= 0.1 + 1e-4


class Drawing(Attack):
    """Says what its generator holds and draws."""

    kind: str = "drawing"

    def run(self, seen, knows, rng, progress):
        return Claim(torch.zeros(0, 1), torch.zeros(0), notes=(f"{list(rng.bit_generator.seed_seq.entropy)}",))


def test_the_generator_of_an_attack_follows_from_no_seed_that_can_be_tried(tiny, tmp_path):
    ((_, claim),) = _attack(tiny, tmp_path, Drawing()).said
    for seed in range(300):
        for tried in (sealed_stream(seed, "attack", "drawing", 0, 1), stream(seed, "attack", "drawing", 0, 1)):
            assert claim.notes[0] != f"{list(tried.bit_generator.seed_seq.entropy)}"


def test_each_run_has_a_secret_of_its_own_that_only_its_owner_reads_and_that_is_kept(tiny, tmp_path):
    scenario = loads(tiny.replace(PINNED, ""))
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    first = with_secret(scenario, one)
    assert first.secret != with_secret(scenario, two).secret
    assert with_secret(scenario, one) == first
    assert first.hidden != first.model_copy(update={"seed": 4}).hidden
    assert one.secret.stat().st_mode & 0o077 == 0
    assert first.undefended().secret == first.secret
    assert with_secret(loads(tiny), one).secret == PINNED.split('"')[1]
    one.secret.write_text("gone")
    with pytest.raises(RunError, match="secret: is damaged"):
        with_secret(scenario, one)


@pytest.mark.parametrize(
    "module",
    ["fedinv.data.population", "clients.app", "fedinv.scenario", "fedinv.studies.assess", "fedinv.judge.truth"],
)
def test_an_attack_that_reaches_for_the_truth_cannot(tiny, tmp_path, module):
    with pytest.raises(RunError, match=f"may not import {module.split('.')[0]}"):
        _attack(tiny, tmp_path, Reaching(module=module))


def test_what_an_attack_is_given_leads_to_no_record_and_no_seed(tiny, tmp_path):
    ((_, claim),) = _attack(tiny, tmp_path, Looking()).said
    assert int(claim.notes[0].split()[0]) > 3


def _modules():
    """Every module of the package and of the two roles."""
    for package in ("fedinv", "clients", "server"):
        yield package
        for found in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            yield found.name


VISIBLE = (
    "fedinv.attack",
    "fedinv.errors",
    "fedinv.strict",
    "fedinv.task",
    "fedinv.defense_terms",
    "fedinv.privacy",
    "fedinv.results",
    "server.attacks",
    "server.countermeasures",
    "server.inference",
    "server.inversion",
)


@pytest.mark.parametrize("name", sorted(_modules()))
def test_a_module_is_hidden_while_an_attack_runs_unless_it_is_listed(name):
    listed = name in ("fedinv", "server") or any(name == v or name.startswith(f"{v}.") for v in VISIBLE)
    importlib.import_module(name)
    with wall():
        assert (name in sys.modules) == listed
        if not listed:
            with pytest.raises(WallError, match=f"may not import {re.escape(name.split('.')[0])}"):
                importlib.import_module(name)
    assert name in sys.modules


def test_what_is_there_while_an_attack_runs_holds_nothing_of_what_is_hidden():
    # what functions hold in their globals, the stack's frames and the garbage collector are left aside: see the wall
    for name in _modules():
        importlib.import_module(name)
    with wall():
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] not in ("fedinv", "server"):
                continue
            for attribute, value in vars(module).items():
                origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
                assert not isinstance(origin, str) or is_visible(origin), f"{name}.{attribute} is of {origin}"


def test_the_linter_forbids_to_attacks_whatever_is_not_listed():
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    forbidden = config["importlinter:contract:attacks"]["forbidden_modules"].split()
    there = {f"fedinv.{found.name}" for found in pkgutil.iter_modules([str(ROOT / "fedinv")])}
    there |= {f"server.{found.name}" for found in pkgutil.iter_modules([str(ROOT / "server")])}
    assert sorted(forbidden) == sorted({one for one in there if not is_visible(one)} | {"clients"})


PLUGIN = """
from typing import Literal
import torch
from fedinv.attack import Attack, Claim
{imports}

class Thief(Attack):
    kind: Literal["thief"] = "thief"
    def run(self, seen, knows, rng, progress):
        {reach}
        return Claim(torch.zeros(0, 1), torch.zeros(0))
"""


@pytest.mark.parametrize(
    ("imports", "reach", "said"),
    [
        ("from fedinv.studies import assess", "assess.population_of", "holds something of fedinv.studies.assess"),
        ("from fedinv.runs import attack_runner", "attack_runner.Scenario", "something of fedinv.runs.attack_runner"),
        ("from fedinv.judge.truth import true_rows", "true_rows", "holds something of fedinv.judge.truth"),
        ("import thief_helper", "thief_helper.read", "module thief_helper holds something of fedinv.scenario"),
        ("", "import fedinv.studies.assess", "may not import fedinv.studies"),
        ("", "import fedinv; fedinv.studies", "no attribute 'studies'"),
        ("import fedinv", "fedinv.runs", "no attribute 'runs'"),
        ("", "import thief_data", "may not import thief_data"),
    ],
)
def test_a_plugin_cannot_bring_along_what_is_hidden(tiny, tmp_path, monkeypatch, imports, reach, said):
    package = tmp_path / "package"
    (package / "thief-1.0.dist-info").mkdir(parents=True)
    (package / "thief-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: thief\nVersion: 1.0\n")
    entries = "[fedinv.attacks]\nthief = thief:Thief\n[fedinv.datasets]\nthief = thief_data:Data\n"
    (package / "thief-1.0.dist-info/entry_points.txt").write_text(entries)
    (package / "thief.py").write_text(PLUGIN.format(imports=imports, reach=reach))
    (package / "thief_helper.py").write_text("from fedinv.scenario import read\n")
    (package / "thief_data.py").write_text("")
    monkeypatch.syspath_prepend(str(package))
    for name in ("thief", "thief_helper", "thief_data"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(RunError, match=said):
        _attack(tiny, tmp_path, plugins.load("attacks", "thief")())


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
        ("server/attacks/thief.py", "import clients.training.plain_training"),
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
    run = TrainedRun(scenario, RunFolder(folder))
    vars(run)["seen"] = (seen,)
    return attack_runner.run_attack(run, attack_runner.control_plan(attack), Grants(), lambda _: None)
