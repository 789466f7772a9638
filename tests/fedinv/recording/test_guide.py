"""What the guide shows runs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer.main

from fedinv.cli import app

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs/own-app.md").read_text(encoding="utf-8")


def test_the_commands_that_are_shown_can_be_parsed():
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^fedinv (.*)$", GUIDE, re.M)]
    assert len(lines) >= 3
    for command, *arguments in lines:
        typer.main.get_command(app).commands[command].make_context(command, arguments)


def test_the_reading_that_is_shown_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    import fedinv

    np.savez("a.npz", w=np.zeros(2))
    np.savez("b.npz", w=np.ones(2))
    fedinv.import_files("a.npz", ["b.npz"], out="runs/mine", records=5)
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "open_recording" in block]
    found: dict = {}
    exec(code, found)
    assert capsys.readouterr().out == "1 0 5 ['w']\n()\n"
    assert found["moved"]["w"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["tap", "tap_mod", "open_recording"])
def test_every_function_that_is_named_is_there(name):
    import fedinv

    assert f"fedinv.{name}(" in GUIDE
    assert callable(getattr(fedinv, name))
