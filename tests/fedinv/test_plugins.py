import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedinv import plugins, roles
from fedinv.errors import RequestError
from fedinv.scenario.reading import loads

ATTACK = '''"""Claims nothing."""
from typing import Literal
import torch
from fedinv.attack import Attack, Claim

class Silent(Attack):
    """Claims nothing."""
    kind: Literal["silent"] = "silent"

    def run(self, seen, knows, rng, progress):
        return Claim(torch.zeros(0, 1), torch.zeros(0))
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package of other people for a test: its modules' texts, and its entry points by group."""
    imported = set(sys.modules)

    def install(name, modules, **entries):
        site = tmp_path / name
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[fedinv.{group}]\n{line}\n" for group, line in entries.items()]
        (info / "entry_points.txt").write_text("".join(lines))
        for module, text in modules.items():
            (site / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    for module in set(sys.modules) - imported:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


@pytest.fixture
def built_in(tmp_path, monkeypatch):
    """Puts a file among the built-in attacks, in a copy of the server's code."""
    real = roles.folder

    def put(name, text):
        folder = tmp_path / "server"
        (folder / "attacks").mkdir(parents=True, exist_ok=True)
        (folder / "attacks" / name).write_text(text)
        monkeypatch.setattr(roles, "folder", lambda role: folder if role == "server" else real(role))
        return folder / "attacks" / name

    return put


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"""Broken."""\nx = 1\ndef run(:\n', r"SyntaxError: .*\(.*quiet_one\.py:3\)"),
        (
            '"""Lacks a package."""\nimport torch\nimport not_installed.at_all\n',
            r"'not_installed' \(.*quiet_one\.py:3\)",
        ),
        ('"""Has no class."""\n', r"no class with kind: Literal\['quiet-one'\] \(.*quiet_one\.py\)"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_listed_with_its_line_and_the_others_as_ever(built_in, text, reason):
    built_in("quiet_one.py", text)
    built_in("silent.py", ATTACK)
    listed = plugins.listing("attacks")
    assert listed["silent"] == "Claims nothing."
    with pytest.raises(AssertionError, match=f"cannot be loaded: .*{reason}"):
        raise AssertionError(listed["quiet-one"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\ndef run(:\n", r"SyntaxError: .*\(.*other_a\.py:2\)"),
        ("import torch\nimport not_installed_here\n", r"ModuleNotFoundError: .*\(.*other_a\.py:2\)"),
        ("\n\nraise SystemExit('bye')\n", r"SystemExit: bye \(.*other_a\.py:3\)"),
        (
            "class Silent:\n    pass\n",
            r"Silent is no class derived from fedinv\.attack\.Attack \(.*other_a\.py\)",
        ),
        ("x = 1\n", r"AttributeError: .*Silent"),
        (ATTACK.replace('"silent"', '"quiet"'), r"Silent must write kind: Literal\['silent'\] \(.*other_a\.py\)"),
        (ATTACK.replace('Literal["silent"]', "str"), r"Silent must write kind: Literal\['silent'\]"),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_is_listed_and_is_one_clear_line_where_it_is_used(
    package, tiny, text, reason
):
    package("other-a", {"other_a": text}, attacks="silent = other_a:Silent")
    with pytest.raises(AssertionError, match=f"^cannot be loaded: .*{reason}"):
        raise AssertionError(plugins.listing("attacks")["silent"])
    with pytest.raises(RequestError, match=f"attack 'silent' cannot be loaded: .*{reason}") as caught:
        loads(tiny + '[[attacks]]\nkind = "silent"\n')
    assert "\n" not in str(caught.value)
    assert loads(tiny + '[[attacks]]\nkind = "exact"\n').attacks[0].kind == "exact"
    assert "silent" not in plugins.loaded("attacks")


def test_a_built_in_plugin_is_never_replaced_by_another_package(package):
    package("other-b", {"other_b": ATTACK.replace("silent", "exact")}, attacks="exact = other_b:Silent")
    listed = plugins.listing("attacks")
    assert listed["exact"] == "Solves the first layer for whole records; needs no knowledge."
    assert listed["exact (other-b)"].startswith(
        "cannot be loaded: 'exact' is built in; give the entry point of other-b"
    )
    assert plugins.load("attacks", "exact").__name__ == "Exact"


def test_of_two_packages_with_the_same_kind_neither_is_used(package):
    for name in ("other-c", "other-d"):
        package(name, {name.replace("-", "_"): ATTACK}, attacks=f"silent = {name.replace('-', '_')}:Silent")
    assert plugins.listing("attacks")["silent"].startswith("cannot be loaded: other-c and other-d both offer it")
    with pytest.raises(RequestError, match="attack 'silent' cannot be loaded: .*uninstall one of them"):
        plugins.load("attacks", "silent")


@pytest.mark.slow
def test_the_command_line_lists_a_broken_plugin_and_refuses_to_run_it(package, tmp_path):
    site = package("other-e", {"other_e": "def run(:\n"}, attacks="silent = other_e:Silent")
    root = Path(__file__).parents[2]

    def fedinv(*arguments):
        command = [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(site), str(root)]!r}\n"]
        command[-1] += "from fedinv.cli import main; main()"
        return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=tmp_path)

    listed = fedinv("list", "attacks", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "other_e.py:1" in json.loads(listed.stdout)["silent"]
    asked = fedinv("run", "hospital", "--set", 'attacks=[{kind="silent"}]')
    assert asked.returncode == 2
    assert asked.stderr.count("\n") == 1
    assert "attack 'silent' cannot be loaded: SyntaxError: invalid syntax" in asked.stderr
    assert "other_e.py:1" in asked.stderr
    assert not (tmp_path / "runs").exists()


def test_every_plugin_here_can_be_loaded_and_listing_finds_no_fault():
    for group in ("attacks", "defenses", "datasets"):
        assert not [row for row in plugins.listing(group).values() if row.startswith("cannot be loaded")]
        assert set(plugins.loaded(group)) == set(plugins.available(group))
