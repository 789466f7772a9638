import configparser
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fedinv import plugins
from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.defense import Sending
from fedinv.runs import attack_runner
from fedinv.scenario.reading import loads
from fedinv.task.columns import Continuous
from fedinv.task.schema import Schema

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(kind: str) -> type:
    """The class of the guide's example, run as the file that it says."""
    blocks = [re.sub(r"^ {3}", "", b, flags=re.M) for b in re.findall(r"```python\n(.*?)```", GUIDE, re.S)]
    (code,) = [b for b in blocks if f'Literal["{kind}"]' in b]
    module = ModuleType(f"example_{kind}")
    sys.modules[module.__name__] = module
    exec(code, vars(module))
    return vars(module)[kind.capitalize()]


def test_the_guides_attack_works():
    column = Continuous(name="x", mean=0, std=1, low=-1, high=1, mode=0.5)
    schema = Schema(columns=(column,), label="y", classes=("a", "b"))
    weights = {"0.weight": torch.zeros(1, 1)}
    seen = Observation((0,), (Exchange(1, weights, weights, 3),))
    claim = example("average")().run(seen, Knowledge(schema=schema), np.random.default_rng(0), lambda _: None)
    assert claim.records.tolist() == [[0.5]] * 3


def test_the_guides_defense_works():
    sending = Sending(client=0, round=1, cohort=(0,), records=1, seed=1, rng=np.random.default_rng(0))
    assert example("half")().protect({"w": torch.ones(2)}, sending)["w"].tolist() == [0.5, 0.5]


def test_a_plugin_of_another_package_is_found_and_run(tiny, tmp_path, monkeypatch):
    package = tmp_path / "other"
    (package / "other-1.0.dist-info").mkdir(parents=True)
    (package / "other-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    entries = "[fedinv.attacks]\naverage = other_average:Average\n[fedinv.defenses]\nhalf = other_half:Half\n"
    (package / "other-1.0.dist-info/entry_points.txt").write_text(entries)
    for kind in ("average", "half"):
        (code,) = [b for b in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if f'Literal["{kind}"]' in b]
        (package / f"other_{kind}.py").write_text(re.sub(r"^ {3}", "", code, flags=re.M))
    monkeypatch.syspath_prepend(str(package))
    assert plugins.available("attacks")["average"].summary == "from other"
    scenario = loads(tiny + '[[defenses]]\nkind = "half"\n[[attacks]]\nkind = "average"\nconfidence = 0.3\n')
    (plan,) = attack_runner.plans(scenario, scenario.attacks[0])
    assert plan.attack.confidence == 0.3
    assert scenario.defenses[0].kind == "half"


@pytest.mark.parametrize("group", ["attacks", "defenses", "datasets"])
def test_every_plugin_keeps_the_contract_of_its_group(group):
    for kind in plugins.available(group):
        found = plugins.load(group, kind)
        assert found.model_config["frozen"]
        assert found.model_config["extra"] == "forbid"
        assert found.__doc__
        for name, field in found.model_fields.items():
            bounded = field.metadata or field.annotation not in (int, float)
            assert bounded, f"{kind}.{name} takes any number"


def test_the_table_of_rooms_is_what_the_linter_holds():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[1] / ".importlinter")
    floors = config["importlinter:contract:layers"]["layers"].strip().splitlines()
    held = [{room.strip().removeprefix("fedinv.") for room in floor.split("|")} for floor in floors]
    rows = GUIDE.split("| floor | rooms |")[1].split("\n\n")[0].splitlines()[2:]
    rooms = [
        {name.removesuffix("/").removesuffix(".py") for name in re.findall(r"`([a-z_]+(?:/|\.py))`", row)}
        for row in rows
    ]
    position = {room: floor for floor, found in enumerate(held) for room in found}
    order = [sorted(position[room] for room in found if room in position) for found in rooms]
    assert order == sorted(order)
    package = Path(__file__).parents[1] / "fedinv"
    there = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__"} == set(position)
    assert set().union(*rooms) <= there
